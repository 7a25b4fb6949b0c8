"""Metrics of a run: JSONL always, TensorBoard and Prometheus beside it.

The JSONL file is part of the run's record and is cut back on resume; the other two are views and never stop a
run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import structlog
from prometheus_client import Gauge

from pilothouse.server.metrics import weights_push_seconds
from pilothouse.trainer.durable import append_rows, cut_torn_line, keep_rows_until, read_rows

_log = structlog.get_logger(__name__)

GAUGES = {
    "objective/kl": Gauge("pilothouse_kl", "KL to the reference in nats per response, mean over the step."),
    "objective/scores": Gauge("pilothouse_reward_mean", "Mean score of the step's responses."),
    "rollout/scores_std": Gauge("pilothouse_reward_std", "Standard deviation of the step's scores."),
    "objective/entropy": Gauge("pilothouse_entropy", "Entropy estimate in nats per response."),
    "staleness/max": Gauge("pilothouse_rollout_staleness", "Versions that the oldest sample was behind."),
    "rollout/dropped_stale": Gauge(
        "pilothouse_rollout_dropped_stale", "Samples dropped as stale in the step."
    ),
    "response/length": Gauge("pilothouse_response_tokens", "Mean response length in tokens."),
    "time/rollout_seconds": Gauge("pilothouse_rollout_seconds", "Time of the step's rollout."),
    "time/update_seconds": Gauge("pilothouse_update_seconds", "Time of the step's PPO update."),
    "eps": Gauge("pilothouse_episodes_per_second", "Responses learned from per second."),
}
"""Prometheus gauge of a metric name, online PPO."""
FIT_GAUGES = {
    "loss": Gauge("pilothouse_fit_loss", "Loss of the step, SFT or reward model."),
    "eval_loss": Gauge("pilothouse_fit_held_out_loss", "SFT: loss on held-out data, nats per token."),
    "eval_accuracy": Gauge(
        "pilothouse_fit_held_out_accuracy", "Reward model: share of held-out pairs ranked as people did."
    ),
}
"""Prometheus gauge of a metric name, SFT and reward model."""
for _gauge in (GAUGES | FIT_GAUGES).values():
    _gauge.set(math.nan)  # not measured yet; a 0 would be taken for a measurement
PUSH_SECONDS = weights_push_seconds()
CHECKPOINT_SECONDS = Gauge("pilothouse_checkpoint_seconds", "Time of the last checkpoint.")
STEP = Gauge("pilothouse_trainer_step", "Steps done.")
LAST_STEP = Gauge(
    "pilothouse_trainer_last_step_timestamp_seconds",
    "When the run finished its last step, or began before its first, in Unix time; 0 before a run.",
)
PAUSED = Gauge("pilothouse_trainer_paused", "1 while the run is held before its next step, else 0.")
VERSION = Gauge("pilothouse_trainer_version", "Weight version of the trainer.")


class Scalars(Protocol):
    """The part of TensorBoard's SummaryWriter that is used."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Takes one value."""

    def close(self) -> None:
        """Writes out what is buffered."""


class MetricsLog:
    """Takes one row of metrics per step."""

    def __init__(self, file: Path, *, tensorboard: Path | None = None) -> None:
        """Opens the log.

        Args:
            file: The JSONL file; created by the first row.
            tensorboard: Folder of the event files; None for none.
        """
        cut_torn_line(file)
        self._file = file
        self._folder = tensorboard
        self._scalars: Scalars | None = None
        LAST_STEP.set_to_current_time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def restore(self, step: int) -> int:
        """Drops the rows of steps above ``step``, which are going to be taken again; returns how many."""
        dropped = keep_rows_until(self._file, step)
        self._open_tensorboard(purge_step=step + 1)
        return dropped

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one step, durable when this returns. What is not finite is written as null."""
        row: dict[str, Any] = {"step": step}
        row |= {name: _finite(value) for name, value in sorted(metrics.items())}
        append_rows(self._file, [row])
        STEP.set(step)
        LAST_STEP.set_to_current_time()
        for name, gauge in (GAUGES | FIT_GAUGES).items():
            if name in metrics:
                gauge.set(metrics[name])
        if "time/push_seconds" in metrics:
            PUSH_SECONDS.observe(metrics["time/push_seconds"])
        self._write_tensorboard(step, metrics)

    def rows(self) -> list[dict[str, Any]]:
        """Returns all rows, oldest first."""
        return list(read_rows(self._file))

    def close(self) -> None:
        """Ends writing."""
        if self._scalars is not None:
            self._scalars.close()
            self._scalars = None

    def _open_tensorboard(self, purge_step: int | None = None) -> None:
        if self._folder is None or self._scalars is not None:
            return
        try:
            self._scalars = _summary_writer(self._folder, purge_step)
        except (ImportError, OSError) as error:
            self._give_up(error)

    def _write_tensorboard(self, step: int, metrics: Mapping[str, float]) -> None:
        self._open_tensorboard()
        if self._scalars is None:
            return
        try:
            for name, value in metrics.items():
                self._scalars.add_scalar(name, value, step)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _log.warning("TensorBoard files are not written any more; metrics.jsonl is", problem=str(error))
        self._folder = self._scalars = None


def _summary_writer(folder: Path, purge_step: int | None) -> Scalars:
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and an extra

    writer: Scalars = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=10)
    return writer


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
