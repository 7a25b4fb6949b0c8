"""Starts and stops a stack that outlives the command that started it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from pilothouse.errors import BY_REASON, ServiceStartError, StackError
from pilothouse.local.process import last_line
from pilothouse.local.state import StackState, read_state, running_state
from pilothouse.local.supervisor import state_folder

LOG_FILE = "supervisor.log"
"""Name of the supervisor's own log in the state folder."""
_POLL_SECONDS = 0.05
_KILL_SECONDS = 5.0


def start(
    file: Path | None = None,
    overrides: Sequence[str] = (),
    services: Sequence[str] | None = None,
    on_change: Callable[[StackState], None] | None = None,
) -> StackState:
    """Starts a supervisor in a session of its own and waits until its services are serving.

    Args:
        file: Configuration file.
        overrides: ``section.key=value`` settings.
        services: Which services; None takes ``local.services``.
        on_change: Called with every new state while waiting.

    Raises:
        StackError: A stack is already running in the folder.
        PilothouseError: The stack could not start.
    """
    folder = state_folder(file, overrides)
    folder.mkdir(parents=True, exist_ok=True)
    before = read_state(folder)
    if before is not None and before.is_alive:
        raise StackError(
            f"a stack is already running in {folder} (pid {before.pid}); "
            "`pilothouse status` shows it, `pilothouse down` stops it"
        )
    command = [sys.executable, "-m", "pilothouse.local.supervisor"]
    command += ["--config", str(file.resolve())] if file else []
    for override in overrides:
        command += ["--set", override]
    for service in services or ():
        command += ["--service", service]
    process = psutil.Process(_spawn(command, folder / LOG_FILE))
    try:
        return _wait_until_serving(process, folder, on_change)
    except BaseException:
        _end(process, None)
        raise


def stop(
    file: Path | None = None, overrides: Sequence[str] = (), timeout_seconds: float | None = None
) -> StackState:
    """Stops the running stack and returns what it was.

    Args:
        file: Configuration file, for ``local.state_dir``.
        overrides: ``section.key=value`` settings, for the same.
        timeout_seconds: Time for a graceful end before everything is killed; None takes the stack's own.

    Raises:
        StackError: No stack is running.
    """
    state = running_state(state_folder(file, overrides))
    _end(psutil.Process(state.pid), timeout_seconds)
    return state


def _spawn(command: Sequence[str], log: Path) -> int:
    """Starts ``command`` as the leader of a new session, with its output in ``log``; returns its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], list(command), os.environ, file_actions=actions, setsid=True)


def _has_ended(process: psutil.Process) -> bool:
    try:
        process.wait(0)
    except psutil.TimeoutExpired:
        return False
    return True


def _wait_until_serving(
    process: psutil.Process, folder: Path, on_change: Callable[[StackState], None] | None
) -> StackState:
    seen = None
    while True:
        ended = _has_ended(process)
        state = read_state(folder)
        if state is not None and state.pid == process.pid and state != seen:
            seen = state
            if on_change is not None:
                on_change(state)
            if state.is_serving:
                return state
        if ended:
            raise _failure(state if state and state.pid == process.pid else None, folder)
        time.sleep(_POLL_SECONDS)


def _failure(state: StackState | None, folder: Path) -> Exception:
    if state is not None and state.failure:
        return BY_REASON.get(state.failure_reason, ServiceStartError)(state.failure)
    said = last_line(folder / LOG_FILE)
    return ServiceStartError(f"{said or 'the supervisor ended without a word'} [log: {folder / LOG_FILE}]")


def _end(process: psutil.Process, timeout_seconds: float | None) -> None:
    """Asks a supervisor to stop; kills it when it does not, and the kernel its children with it."""
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout_seconds)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(_KILL_SECONDS)
    except psutil.NoSuchProcess:
        return
