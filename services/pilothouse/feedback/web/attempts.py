"""Bounds how often something that may be guessed is tried."""

from collections import OrderedDict, deque
from collections.abc import Callable

_WINDOW_SECONDS = 60.0
_MAX_KEYS = 10_000


class Attempts:
    """Counts tries of the last minute by key, an address or a name; remembers a bounded number of keys."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # the key longest unused first

    def take(self, *keys: str) -> bool:
        """Counts a try of every key and returns True; False, and no count, where one has had enough."""
        now = self._clock()
        histories = [self._history(key, now) for key in keys]
        if any(len(times) >= self._per_minute for times in histories):
            return False
        for times in histories:
            times.append(now)
        return True

    def forgive(self, *keys: str) -> None:
        """Uncounts the last try: it was no guess."""
        for key in keys:
            if times := self._times.get(key):
                times.pop()

    def _history(self, key: str, now: float) -> deque[float]:
        times = self._times.setdefault(key, deque())
        self._times.move_to_end(key)
        while times and times[0] <= now - _WINDOW_SECONDS:
            times.popleft()
        while len(self._times) > _MAX_KEYS:
            self._times.popitem(last=False)
        return times
