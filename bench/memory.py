"""Peak memory of a tree of processes, pages shared between them counted once (proportional set size)."""

import threading
from types import TracebackType

import psutil


def tree_bytes(pid: int) -> int:
    """Returns the proportional set size of a process and all its descendants, in bytes."""
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between the listing and the reading
    return total


class PeakMemory:
    """Samples a process tree while a block runs; ``peak_bytes`` afterwards."""

    def __init__(self, pid: int, *, interval_seconds: float = 0.25) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._interval_seconds = interval_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self._pid))
            if self._done.wait(self._interval_seconds):
                return
