"""What a run shows to, and takes from, the outside: status, metrics, pause, checkpoint, stop.

Any thread may call.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Literal

import structlog

from pilothouse.errors import PreconditionError
from pilothouse.trainer.metrics import PAUSED

RunState = Literal["starting", "running", "paused", "finished", "failed"]
"""What a run is doing."""
MetricsRow = tuple[int, Mapping[str, float]]
"""(step, metrics by name)."""
Saved = tuple[str, int]
"""(folder of a checkpoint relative to the run directory, step after which it was taken)."""

_log = structlog.get_logger(__name__)


class StepAbandoned(BaseException):  # a way out, like KeyboardInterrupt
    """A stop signal came while nothing had been learned yet from the step under way."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a run stands."""

    run: str
    task: str
    state: RunState
    step: int
    total_steps: int
    epoch: int = 0
    version: int = 0
    checkpoint: str = ""
    """Newest one, relative to the run directory; empty before the first."""
    error: str = ""
    pause_reason: str = ""
    """Why the run was paused, where somebody said so; empty when it goes on."""


class RunControl:
    """Between the loop, which asks it between steps, and those who watch and steer."""

    def __init__(self, run: str, task: str, total_steps: int) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._status = Status(run, task, "starting", 0, total_steps)
        self._rows: list[MetricsRow] = []
        self._paused = False
        self._stopping = False
        self._waiting: list[Future[Saved]] = []
        self._ended: Future[Saved] = Future()
        self._listeners: dict[int, Callable[[], None]] = {}

    @property
    def status(self) -> Status:
        """Where the run stands now."""
        with self._lock:
            return self._status

    @property
    def stopping(self) -> bool:
        """Whether the run is to end after this step."""
        with self._lock:
            return self._stopping

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.status.state in ("finished", "failed")

    def rows(self, start: int) -> list[MetricsRow]:
        """Returns the metrics rows from the ``start``-th on, oldest first."""
        with self._lock:
            return self._rows[start:]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls ``listener``, from any thread, on every change; returns what ends that."""
        with self._lock:
            self._listeners[id(listener)] = listener

        def unlisten() -> None:
            with self._lock:
                self._listeners.pop(id(listener), None)

        return unlisten

    def pause(self, reason: str = "") -> None:
        """Holds the run before its next step."""
        with self._lock:
            self._paused = True
        self.update(pause_reason=reason)

    def resume(self) -> None:
        """Lets a paused run go on."""
        with self._lock:
            self._paused = False
        self.update(pause_reason="")

    def request_checkpoint(self) -> "Future[Saved]":
        """Asks for a checkpoint after the current step.

        Raises:
            PreconditionError: The run has ended.
        """
        with self._lock:
            if self.ended:
                raise PreconditionError("the run has ended; its last checkpoint is in the status")
            future: Future[Saved] = Future()
            self._waiting.append(future)
            self._changed.notify_all()
            return future

    def request_stop(self) -> "Future[Saved]":
        """Asks the run to end after the current step; the result is its last checkpoint."""
        with self._lock:
            self._stopping = True
            self._changed.notify_all()
            return self._ended

    def update(self, **changes: object) -> None:
        """Changes fields of the status. The loop's."""
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
            PAUSED.set(self._status.state == "paused")
            self._changed.notify_all()
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener()

    def restored(self, step: int, rows: Sequence[Mapping[str, float | None]], *, epoch: int) -> None:
        """Shows where a run begins, with the rows of its log so far; null stands for NaN. The loop's."""
        with self._lock:
            for row in rows:
                metrics = {name: number for name, number in row.items() if number is not None}
                self._rows.append((int(metrics.pop("step")), metrics))
        self.update(step=step, epoch=epoch)

    def add_row(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the metrics of a finished step. The loop's."""
        with self._lock:
            self._rows.append((step, metrics))
        self.update(step=step)

    def between_steps(self, save: Callable[[], Saved]) -> bool:
        """Holds while paused, saves if asked, and returns whether to take another step. The loop's."""
        while True:
            with self._lock:
                asked, self._waiting = self._waiting, []
                paused = self._paused and not self._stopping
            self._show("paused" if paused else "running")
            # Who has hung up meanwhile has cancelled the order; from here on nobody can.
            waiting = [future for future in asked if future.set_running_or_notify_cancel()]
            if waiting:
                _settle(waiting, save)
                continue
            if self.stopping:
                return False
            if not paused:
                return True
            with self._lock:
                # A timeout lets signal handlers run in this thread.
                self._changed.wait(timeout=0.2)

    def finish(self, saved: Saved | None, error: str = "") -> None:
        """Ends the run, for all who wait. The loop's."""
        self.update(state="failed" if error else "finished", error=error)
        with self._lock:
            waiting, self._waiting = [*self._waiting, self._ended], []
        for future in waiting:
            if future.done() or not future.set_running_or_notify_cancel():
                continue
            if saved is None:
                future.set_exception(PreconditionError(f"the run ended without a checkpoint: {error}"))
            else:
                future.set_result(saved)

    def _show(self, state: RunState) -> None:
        if self.status.state != state:
            self.update(state=state)


class StopSignals:
    """Ctrl-C and SIGTERM: the first ends the run safely, the second ends the process."""

    def __init__(self, control: RunControl) -> None:
        self._control = control
        self._abandonable = False
        self.received = False
        """Whether one has come."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles both signals while inside. Only in the main thread; elsewhere signals are left alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def abandonable(self) -> Iterator[None]:
        """Inside, nothing has been learned yet: a signal raises ``StepAbandoned`` instead of waiting."""
        if self._control.stopping:
            raise StepAbandoned
        self._abandonable = True
        try:
            yield
        finally:
            self._abandonable = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._control.stopping:
            raise KeyboardInterrupt
        self.received = True
        self._control.request_stop()
        _log.warning("stopping: saving a checkpoint first; once more ends at once", signal=number)
        if self._abandonable:
            self._abandonable = False
            raise StepAbandoned


def _settle(waiting: list["Future[Saved]"], save: Callable[[], Saved]) -> None:
    try:
        saved = save()
    except BaseException as error:
        for future in waiting:
            future.set_exception(error)
        raise
    for future in waiting:
        future.set_result(saved)
