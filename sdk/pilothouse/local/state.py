"""The state file of ``pilothouse up``: who supervises the stack, and how its services are."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from pilothouse.errors import StackError
from pilothouse.local.events import ServiceStatus

_FILE = "stack.json"
_LOCK = "stack.lock"
_SAME_START_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class StackState:
    """What a supervisor last wrote about itself."""

    pid: int
    """Process id of the supervisor."""
    process_started_unix_seconds: float
    """When that process started; with the pid it names one process for good."""
    config_file: str | None = None
    """Configuration file the services were given."""
    overrides: Sequence[str] = ()
    """Overrides the services were given."""
    failure: str = ""
    """Why the stack could not start; empty while it runs."""
    failure_reason: str = ""
    """Machine reason of that error."""
    services: list[ServiceStatus] = field(default_factory=list)
    """Every service as the supervisor saw it last."""

    @property
    def is_alive(self) -> bool:
        """Whether that very supervisor still runs."""
        try:
            process = psutil.Process(self.pid)
            started = process.create_time()
            running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
        return running and abs(started - self.process_started_unix_seconds) < _SAME_START_SECONDS

    @property
    def is_serving(self) -> bool:
        """Whether every service is serving."""
        return bool(self.services) and all(service.state == "serving" for service in self.services)


def read_state(folder: Path) -> StackState | None:
    """Returns what the state file in ``folder`` says; None where there is none or it cannot be understood."""
    try:
        content = json.loads((folder / _FILE).read_text())
        services = [ServiceStatus(**service) for service in content.pop("services")]
        return StackState(**content, services=services)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def running_state(folder: Path) -> StackState:
    """Returns the state of the stack that runs in ``folder``.

    Raises:
        StackError: None does.
    """
    state = read_state(folder)
    if state is None or not state.is_alive:
        raise StackError(
            f"no stack is running in {folder}; start one with `pilothouse up`, or name its folder with "
            "--set local.state_dir=FOLDER"
        )
    return state


def write_state(folder: Path, state: StackState) -> None:
    """Replaces the state file; a reader finds the old one or the new one, whole."""
    partial = folder / f"{_FILE}.{os.getpid()}.partial"
    partial.write_text(json.dumps(asdict(state), indent=2))
    partial.replace(folder / _FILE)


def remove_state(folder: Path) -> None:
    """Removes the state file: the stack ended as it should."""
    (folder / _FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def sole_supervisor(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go when the process ends, however it ends.

    Raises:
        StackError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"a stack is already running in {folder}; "
                "`pilothouse status` shows it, `pilothouse down` stops it"
            ) from None
        yield


def own_state(config_file: Path | None, overrides: Sequence[str]) -> StackState:
    """Returns a state that names this process as the supervisor."""
    started = psutil.Process().create_time()
    return StackState(os.getpid(), started, str(config_file) if config_file else None, list(overrides))
