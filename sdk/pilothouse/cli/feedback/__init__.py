"""``feedback``: queues, tasks, raters, quality and data of the feedback service."""
