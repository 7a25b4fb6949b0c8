"""Prometheus metrics of the reward service; ``model`` is the scorer's name in the configuration."""

from prometheus_client import Counter, Gauge, Histogram

WAITING_ROWS = Gauge("pilothouse_reward_waiting_rows", "Rows waiting for a batch.", ["model"])
SCORES = Counter("pilothouse_reward_scores", "Rows scored.", ["model"])
FAILURES = Counter("pilothouse_reward_failures", "Requests without a score.", ["model", "reason"])
BATCH_ROWS = Histogram(
    "pilothouse_reward_batch_rows",
    "Rows of a batch.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_TOKENS = Histogram(
    "pilothouse_reward_batch_tokens",
    "Padded tokens of a batch.",
    ["model"],
    buckets=(64, 256, 1024, 2048, 4096, 8192, 16384, 65536),
)
BATCH_SECONDS = Histogram(
    "pilothouse_reward_batch_seconds",
    "Time to compute a batch.",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUE_SECONDS = Histogram(
    "pilothouse_reward_queue_seconds",
    "Time from a row's arrival to the start of its batch.",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
SHADOW_ROWS = Counter("pilothouse_reward_shadow_rows", "Live rows that the candidate has scored too.")
SHADOW_DROPPED_ROWS = Counter(
    "pilothouse_reward_shadow_dropped_rows", "Live rows passed over because the candidate had enough to do."
)
SHADOW_FAILED_ROWS = Counter(
    "pilothouse_reward_shadow_failed_rows", "Live rows that the candidate could not score."
)
SHADOW_WAITING_ROWS = Gauge("pilothouse_reward_shadow_waiting_rows", "Live rows that wait for the candidate.")
SHADOW_MEAN_DIFFERENCE = Gauge(
    "pilothouse_reward_shadow_mean_difference", "Mean of candidate minus serving; 0 without a candidate."
)
SHADOW_STD_DIFFERENCE = Gauge(
    "pilothouse_reward_shadow_std_difference", "Standard deviation of candidate minus serving."
)
SHADOW_AGREEMENT = Gauge(
    "pilothouse_reward_shadow_agreement", "Share of pairs with one prompt that both order the same."
)
PROMOTIONS = Counter("pilothouse_reward_promotions", "Candidates that were promoted.")
ROLLBACKS = Counter("pilothouse_reward_rollbacks", "Promotions that were taken back.")
