"""One reward model, whole: how requests become its rows, and what scores them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from pilothouse.reward.backends.base import Row
from pilothouse.reward.backends.composite import Composite, Recipe, Scored, make_composite
from pilothouse.reward.batch import Batch, Texts
from pilothouse.reward.config import RewardConfig
from pilothouse.reward.models_folder import Spec
from pilothouse.reward.rows import RowMaker

Read = Callable[[RowMaker], Batch]
"""Makes a batch out of a request, within the limits of the rows' model; runs in a thread."""

_PROBE = Texts(["Is this model sound?"], [" We shall see."])


@dataclass(frozen=True, slots=True)
class Answer:
    """A scored batch."""

    batch: Batch
    scored: Scored
    version: str
    """Of the one reward model that has scored all of its rows."""


class Scorer:
    """A loaded reward model. Lives in one event loop."""

    def __init__(self, composite: Composite, config: RewardConfig, spec: Spec | None) -> None:
        """Takes a composite that may not have been started yet.

        Args:
            composite: What scores.
            config: Limits of requests, and how to warm up.
            spec: The folders behind it; None for the configured scorer.
        """
        self.composite = composite
        self.spec = spec
        self.version = composite.version
        self.rows = RowMaker(
            [part.backend for part in composite.parts],
            max_rows=config.max_batch_rows,
            max_text_characters=config.max_text_characters,
        )
        batching = config.batching
        self._warm_up_lengths = [
            length for length in batching.length_buckets if length <= batching.warm_up_tokens
        ]
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    async def start(self) -> None:
        """Warms up and begins to take requests.

        Raises:
            PilothouseError: It cannot score.
        """
        await self.composite.start(self._warm_up_lengths)

    async def probe(self) -> None:
        """Scores a text.

        Raises:
            NonFiniteScoreError: The score is not finite.
        """
        await self.score(lambda _: _PROBE)

    async def score(self, read: Read, deadline: float = inf) -> Answer:
        """Scores a batch.

        Args:
            read: Makes the batch.
            deadline: When the caller stops waiting, by ``time.monotonic``.

        Raises:
            InvalidRequestError: The batch is not what the model takes.
            QueueFullError, ScoringFailedError, NonFiniteScoreError: See `Composite.score`.
        """
        self._users += 1
        self._unused.clear()
        try:
            batch, rows = await asyncio.to_thread(self._read, read, deadline)
            return Answer(batch, await self.composite.score(rows), self.version)
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self) -> None:
        """Waits until the requests that it began have ended, then frees it."""
        await self._unused.wait()
        await self.close()

    async def close(self) -> None:
        """Frees it now; what it is still scoring fails."""
        await self.composite.close()

    def _read(self, read: Read, deadline: float) -> tuple[Batch, list[list[Row]]]:
        batch = read(self.rows)
        return batch, self.rows.rows(batch, deadline)


async def load_scorer(recipe: Recipe, config: RewardConfig, spec: Spec | None = None) -> Scorer:
    """Returns a loaded and warm scorer.

    Raises:
        PilothouseError: It cannot be loaded, or cannot score; what was loaded is freed.
    """
    composite = await make_composite(recipe, config.batching)
    scorer = Scorer(composite, config, spec)
    try:
        await scorer.start()
    except BaseException:
        await scorer.close()
        raise
    return scorer
