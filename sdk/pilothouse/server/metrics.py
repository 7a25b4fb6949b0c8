"""Prometheus metrics that several processes have; those of gRPC calls are named after gRPC proposal A66."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Buckets of a duration."""

OTHER_METHOD = "other"
"""Label of methods that the server does not have, so that callers cannot make up labels."""

CALL_STARTED = Counter(
    "pilothouse_grpc_server_call_started", "Calls that arrived.", ["method"]
)  # exposed with the suffix _total
CALL_DURATION = Histogram(
    "pilothouse_grpc_server_call_duration_seconds",
    "Time from a call's arrival to its end, by status code.",
    ["method", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
RUNNING_CALLS = Gauge(
    "pilothouse_grpc_server_calls_running", "Calls past the limiter, now running.", ["service"]
)
WAITING_CALLS = Gauge("pilothouse_grpc_server_calls_waiting", "Calls waiting at the limiter.", ["service"])
CERTIFICATE_EXPIRY = Gauge(
    "pilothouse_tls_certificate_expiry_timestamp_seconds",
    "When the certificate in force expires, in Unix seconds; only with TLS.",
    ["service"],
)
SHED = Counter("pilothouse_shed", "Calls refused to keep the server alive.", ["reason"])


def weights_push_seconds(registry: CollectorRegistry = REGISTRY) -> Histogram:
    """Returns the histogram of weight pushes: the policy and the trainer see the same ones from two ends."""
    return Histogram(
        "pilothouse_weights_push_seconds",
        "Time of a weight push, from its beginning to its commit.",
        registry=registry,
        buckets=SECONDS,
    )


def exposition() -> bytes:
    """Returns every metric of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)
