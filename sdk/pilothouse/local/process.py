"""One child process: how it is started, tied to this process, and ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pilothouse.local import tether

_TAIL_BYTES = 4096


def spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts ``command`` in a session of its own, so that Ctrl-C reaches only the parent; appends to ``log``.

    The child is killed when the calling *thread* ends (see `tether`): call it from one that lives as long.
    """
    tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            tied, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signals a child and whatever it has started itself."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # gone, or not yet in its own session
        process.send_signal(number)


def how_it_ended(code: int) -> str:
    """Says in words what an exit status means, for example "signal 9 (SIGKILL)"."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def last_line(log: Path, start: int = 0) -> str:
    """Returns the last line with text that was written to ``log`` behind byte ``start``."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start, end - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
