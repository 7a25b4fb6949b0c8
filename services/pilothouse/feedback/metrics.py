"""Prometheus metrics of the feedback service."""

import math

from prometheus_client import Counter, Gauge

LABELS = Counter("pilothouse_labels", "Submissions stored.", ["kind"])  # exposed with the suffix _total
CLAIMS = Counter("pilothouse_feedback_claims", "Tasks handed out.")
UNDONE = Counter("pilothouse_feedback_undone", "Submissions taken back.")
OPEN_TASKS = Gauge(
    "pilothouse_feedback_open_tasks", "Tasks of all queues not answered as often as they should be."
)
ALPHA = Gauge(
    "pilothouse_label_agreement_alpha", "Krippendorff's alpha of all rankings; NaN while it is undefined."
)
ALPHA.set(math.nan)
