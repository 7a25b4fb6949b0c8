"""What a rater does, by the page and by the wire alike: the service's defaults, its clock, its counters."""

from collections.abc import Callable

from pilothouse.feedback import metrics
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import claims, submissions
from pilothouse.feedback.store.claims import Held
from pilothouse.feedback.store.submissions import Said


class Desk:
    """Hands tasks out and takes answers in. The errors are those of `claims` and `submissions`."""

    def __init__(self, database: Database, config: FeedbackConfig, clock: Callable[[], float]) -> None:
        self._database, self._config, self._now = database, config, clock

    async def claim(self, queue: str, rater: str) -> Held:
        """Gives the rater the task that it holds already in this queue, else the next one."""
        held = await self._database.write(
            claims.claim,
            queue=queue,
            rater=rater,
            lease_seconds=self._config.lease_seconds,
            now=self._now(),
        )
        metrics.CLAIMS.inc()
        return held

    async def renew(self, assignment: str, rater: str) -> float:
        """Extends a lease; returns when it ends, in seconds since 1970-01-01 UTC."""
        return await self._database.write(
            claims.renew,
            assignment=assignment,
            rater=rater,
            lease_seconds=self._config.lease_seconds,
            now=self._now(),
        )

    async def submit(self, said: Said) -> bool:
        """Stores a submission; returns False where the same one is stored already."""
        new = await self._database.write(submissions.submit, said, now=self._now())
        if new:
            metrics.LABELS.labels(said.kind).inc()
        return new

    async def undo(self, submission: str, rater: str) -> Held:
        """Takes the rater's own submission back; the rater holds the task again."""
        held = await self._database.write(
            submissions.undo,
            submission=submission,
            rater=rater,
            undo_seconds=self._config.undo_seconds,
            lease_seconds=self._config.lease_seconds,
            now=self._now(),
        )
        metrics.UNDONE.inc()
        return held
