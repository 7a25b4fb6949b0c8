"""Work on the engine's thread that other threads wait for, whole or in pieces."""

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")
Pieces = Generator[None, None, Result]
"""Work in pieces: it yields where a decode step may come between, and returns its result."""


@dataclass(frozen=True, slots=True)
class _Chore:
    pieces: Pieces[Any]
    future: "Future[Any]"


class Chores:
    """Work in pieces, first come, first served. Its owner serialises ``add`` with the rest."""

    def __init__(self) -> None:
        self._waiting: deque[_Chore] = deque()

    def __bool__(self) -> bool:
        """Something is left to do."""
        return bool(self._waiting)

    def add(self, pieces: Pieces[Result]) -> "Future[Result]":
        """Queues work; cancelling the future ends it."""
        future: Future[Result] = Future()
        self._waiting.append(_Chore(pieces, future))
        return future

    def work(self, seconds: float) -> None:
        """Runs pieces until the time is over; at least one."""
        started = time.perf_counter()
        while self._waiting:
            chore = self._waiting[0]
            if chore.future.cancelled() or _advance(chore):
                self._waiting.popleft()
            if time.perf_counter() - started >= seconds:
                return

    def fail(self, error: Exception) -> None:
        """Ends all of it."""
        while self._waiting:
            settle(self._waiting.popleft().future, raiser(error))


def settle(future: "Future[Any]", action: Callable[[], Any]) -> None:
    """Puts an action's result or exception into a future, unless nobody waits for it any more."""
    try:
        try:
            result = action()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass  # cancelled meanwhile


def raiser(error: Exception) -> Callable[[], Any]:
    """Returns a function that raises."""

    def fail() -> Any:
        raise error

    return fail


def _advance(chore: _Chore) -> bool:
    """Runs one piece; True when there is no other."""
    try:
        next(chore.pieces)
    except StopIteration as end:
        value = end.value
        settle(chore.future, lambda: value)
        return True
    except Exception as error:
        settle(chore.future, raiser(error))
        return True
    return False
