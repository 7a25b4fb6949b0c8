"""Prometheus figures of the policy service. Labels never hold anything that a client chooses."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pilothouse.policy.requests import FinishReason, Request, Sequence, Version
from pilothouse.server.metrics import SECONDS, SHED, weights_push_seconds


class EngineMetrics:
    """What the engine reports of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every series."""
        self._running = Gauge("pilothouse_policy_running", "Completions that run", registry=registry)
        self._waiting = Gauge("pilothouse_policy_waiting", "Completions that wait", registry=registry)
        self._steps = Histogram(
            "pilothouse_policy_inter_token_seconds", "Decode steps", registry=registry, buckets=SECONDS
        )
        self._queue = Histogram(
            "pilothouse_policy_queue_seconds",
            "From the request to the slot in which a completion runs",
            registry=registry,
            buckets=SECONDS,
        )
        self._first = Histogram(
            "pilothouse_policy_time_to_first_token_seconds",
            "From the request to a completion's first token",
            registry=registry,
            buckets=SECONDS,
        )
        self._whole = Histogram(
            "pilothouse_policy_completion_seconds",
            "From the request to a completion's end",
            registry=registry,
            buckets=SECONDS,
        )
        self._prompt_tokens = Counter(
            "pilothouse_policy_prompt_tokens_total", "Prompt tokens, once per completion", registry=registry
        )
        self._tokens = Counter(
            "pilothouse_policy_generation_tokens_total", "Tokens sampled", registry=registry
        )
        self._completions = Counter(
            "pilothouse_policy_completions_total", "Completions ended", ["reason"], registry=registry
        )
        self._failures = Counter(
            "pilothouse_policy_failures_total", "Completions that failed", ["reason"], registry=registry
        )
        self._cancelled = Counter(
            "pilothouse_policy_cancelled_total", "Completions given up by their callers", registry=registry
        )
        self._mean_seconds = 1.0

    def occupancy(self, running: int, waiting: int) -> None:
        """Reports how much runs and waits."""
        self._running.set(running)
        self._waiting.set(waiting)

    def step(self, seconds: float, rows: int) -> None:
        """Reports a decode step that brought ``rows`` tokens."""
        self._steps.observe(seconds)
        self._tokens.inc(rows)

    def admitted(self, sequences: Iterable[Sequence]) -> None:
        """Reports completions that have just got a slot."""
        now = time.monotonic()
        for sequence in sequences:
            self._queue.observe(now - sequence.request.submitted)

    def first_token(self, sequence: Sequence) -> None:
        """Reports a completion that has just got its first token."""
        self._first.observe(time.monotonic() - sequence.request.submitted)
        self._prompt_tokens.inc(len(sequence.prompt.tokens))
        self._tokens.inc()

    def completed(self, sequence: Sequence, reason: FinishReason) -> None:
        """Reports a completion's end."""
        seconds = time.monotonic() - sequence.request.submitted
        self._whole.observe(seconds)
        self._completions.labels(reason).inc()
        self._mean_seconds += 0.1 * (seconds - self._mean_seconds)

    def shed(self) -> None:
        """Counts a request that the full queue refused."""
        SHED.labels("policy_queue").inc()

    def failed(self, request: Request, reason: str) -> None:
        """Counts what is left of a request that fails, by machine reason; nothing where it has ended."""
        if not request.ended:
            self._failures.labels(reason).inc(request.unfinished)

    def cancelled(self, request: Request) -> None:
        """Counts what is left of a request that nobody waits for any more; nothing where it has ended."""
        if not request.ended:
            self._cancelled.inc(request.unfinished)

    def queue_seconds(self) -> float:
        """Returns after how long a full queue has probably moved, in seconds."""
        return min(max(self._mean_seconds, 0.1), 30.0)


class PushMetrics:
    """What weight pushes report."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers every series."""
        self._epoch = Gauge("pilothouse_policy_epoch", "Fencing epoch of the weights", registry=registry)
        self._version = Gauge("pilothouse_policy_version", "Version of the weights", registry=registry)
        self._seconds = weights_push_seconds(registry)
        self._rejected = Counter(
            "pilothouse_weights_rejected_total", "Pushes refused or dropped", ["reason"], registry=registry
        )

    def serving(self, version: Version) -> None:
        """Reports which weights now serve."""
        self._epoch.set(version.epoch)
        self._version.set(version.version)

    def pushed(self, seconds: float) -> None:
        """Reports a committed push."""
        self._seconds.observe(seconds)

    def rejected(self, reason: str) -> None:
        """Counts a push that was refused or dropped, by machine reason."""
        self._rejected.labels(reason).inc()
