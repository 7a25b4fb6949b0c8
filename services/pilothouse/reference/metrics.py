"""Prometheus metrics of the reference service."""

from prometheus_client import Counter, Histogram

LOGPROB_TOKENS = Counter("pilothouse_reference_tokens", "Response tokens scored.")
LOGPROB_SECONDS = Histogram(
    "pilothouse_reference_logprobs_seconds",
    "Time of a request from its arrival to its answer, waiting included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
