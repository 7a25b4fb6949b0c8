"""What stands around a supervised run: its process, folder, record, server and signals."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from pilothouse.models.memory import keep_freed_memory
from pilothouse.trainer.control import RunControl, Saved, StopSignals
from pilothouse.trainer.fit_config import FitConfig
from pilothouse.trainer.metrics import MetricsLog
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.servicer import serving

MODEL = "model"
"""Folder of the result inside the run's folder, of a run that came to its end."""


class StoppedOnRequest(KeyboardInterrupt):
    """A signal or a caller asked for the end, and the run has saved itself."""

    def __init__(self, checkpoint: Path, step: int) -> None:
        """Says where it goes on from.

        Args:
            checkpoint: The folder.
            step: Steps that are done.
        """
        super().__init__(f"stopped after step {step}; {checkpoint} goes on from there")
        self.checkpoint, self.step = checkpoint, step


@dataclass(slots=True)
class FitRun:
    """What a `pilothouse.trainer.fitting.Fit` works with besides its task."""

    run_dir: RunDir
    metrics: MetricsLog
    control: RunControl
    signals: StopSignals
    saved: Saved | None = None
    """The newest checkpoint."""


@contextmanager
def watched(config: FitConfig, task: str) -> Iterator[FitRun]:
    """Takes the run's folder and shows the run to the outside while inside.

    Args:
        config: The run.
        task: ``sft`` or ``reward-model``.

    Yields:
        What the fit works with. When the block ends without an error its result lies in `MODEL`.

    Raises:
        RunInUseError: Another process writes to the folder.
        ConfigError: The server cannot listen where it should.
    """
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    control = RunControl(config.output.resolve().name, task, total_steps=0)
    with (
        RunDir(config.output) as run_dir,
        MetricsLog(
            run_dir.metrics_file, tensorboard=run_dir.tensorboard_folder if config.tensorboard else None
        ) as metrics,
        serving(control, config.server),
    ):
        run = FitRun(run_dir, metrics, control, StopSignals(control))
        try:
            yield run
        except StoppedOnRequest:
            control.finish(run.saved)
            raise
        except BaseException as error:  # whatever it was: those who wait for the run must hear of its end
            control.finish(run.saved, str(error) or type(error).__name__)
            raise
        control.update(checkpoint=MODEL)
        control.finish((MODEL, control.status.step))
