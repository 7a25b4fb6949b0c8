"""A simulated crowd: it ranks as people do, with noise, and some of it badly. No person is behind any of it.

An honest rater likes an answer by the words of praise in it less those of blame, and picks the best, the
second best and so on with the chances of Plackett and Luce: two such raters agree on a pair as Bradley and
Terry say.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilothouse.client import FeedbackClient, Ranking
from pilothouse.errors import NoTaskError, UnavailableError
from pilothouse.models.tiny_text import NEGATIVE_WORDS, POSITIVE_WORDS

Character = Literal["honest", "random", "first"]
"""``random`` ranks by chance, ``first`` always keeps the order that it is shown."""

_IDLE_SECONDS = 0.2
_PRAISE, _BLAME = frozenset(POSITIVE_WORDS), frozenset(NEGATIVE_WORDS)


@dataclass(frozen=True, slots=True)
class Member:
    """One of the crowd."""

    name: str
    character: Character
    seed: int

    def new_name(self) -> str:
        """Returns a name that nobody has yet: a demo that goes on has new raters, and names are unique."""
        return f"{self.name} (simulated, {uuid.uuid4().hex[:6]})"

    def judge(self) -> "Judge":
        """Returns what ranks answers, from its beginning."""
        return Judge(self.character, np.random.Generator(np.random.Philox(self.seed)))


class Judge:
    """Ranks answers."""

    def __init__(self, character: Character, generator: np.random.Generator, *, noise: float = 0.7) -> None:
        """Makes a judge.

        Args:
            character: How it ranks.
            generator: Its chance.
            noise: Scale of the Gumbel noise on an honest judge's liking; 0 for none.
        """
        self._character, self._generator, self._noise = character, generator, noise

    def ranks(self, answers: Sequence[str]) -> list[int]:
        """Returns a rank for each answer, 1 the best, in the order in which they are shown."""
        liking = np.array([self._liking(place, text) for place, text in enumerate(answers)])
        order = np.argsort(-liking, kind="stable")
        return [int(rank) + 1 for rank in np.argsort(order)]

    def _liking(self, place: int, text: str) -> float:
        if self._character == "first":
            return -place
        gumbel = float(self._generator.gumbel())
        return gumbel if self._character == "random" else praise(text) + self._noise * gumbel


def praise(text: str) -> float:
    """Returns the words of praise less those of blame: what the honest part of the crowd likes."""
    words = text.split()
    return float(sum(word in _PRAISE for word in words) - sum(word in _BLAME for word in words))


class Crowd:
    """Ranks whatever is in a queue, each member in a thread of its own, until it is ended."""

    def __init__(
        self, members: Sequence[Member], queue: str, target: str, workers: Sequence[Callable[[], None]] = ()
    ) -> None:
        """Makes a crowd.

        Args:
            members: Who rank through the API.
            queue: Where from.
            target: The feedback service.
            workers: Further work, until `ended`: raters on the page.
        """
        self._members, self._queue, self._target = members, queue, target
        self.ended = threading.Event()
        self.errors: list[BaseException] = []
        """What went wrong in a thread."""
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in [*(lambda member=member: self._rank(member) for member in members), *workers]
        ]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            # Whatever one waits for has a time limit, and a process that ended before playwright would crash.
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def _rank(self, member: Member) -> None:
        judge = member.judge()
        with FeedbackClient(self._target) as feedback:
            rater = feedback.add_rater(member.new_name())
            while not self.ended.is_set():
                try:
                    held = feedback.claim(self._queue, rater)
                    started = time.monotonic()
                    ranks = judge.ranks([answer.text for answer in held.answers])
                    said = uuid.uuid4().hex
                    seconds = time.monotonic() - started
                    feedback.submit(said, held.id, rater, Ranking(ranks=ranks), seconds=seconds)
                except (NoTaskError, UnavailableError, LookupError):
                    self.ended.wait(_IDLE_SECONDS)
