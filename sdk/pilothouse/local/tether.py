"""Starts a command that cannot outlive its parent. Run as a script: ``tether.py PARENT_PID COMMAND...``.

Linux sends the command SIGKILL when the thread that started it ends, even when that was by ``kill -9``
(prctl(2), PR_SET_PDEATHSIG; kept across exec). Elsewhere the parent's own clean-up is all there is.
Imports nothing of Pilothouse and runs with ``-I -S``, so that it costs one bare interpreter start.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Ties this process to ``parent`` and becomes ``command``."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
