"""The measures of quality, computed apart from the event loop and kept for some seconds."""

import asyncio
from collections.abc import Callable
from time import perf_counter

from sqlalchemy.orm import Session

from pilothouse.feedback.database import Database
from pilothouse.feedback.quality.judgements import Judgement, judgement
from pilothouse.feedback.quality.report import QualityReport, measure
from pilothouse.feedback.store import reading
from pilothouse.feedback.store.queues import check_queue

_FRESH_SECONDS = 20.0
FRESH_PER_SECOND_SPENT = 10.0
"""A report that takes long is kept longer: a tenth of one core at most goes into reports."""


class Measures:
    """Reports by queue; whoever asks while one is made waits for that one."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._reports: dict[str, tuple[QualityReport, float]] = {}
        self._running: dict[str, asyncio.Task[QualityReport]] = {}

    async def report(self, queue: str = "") -> QualityReport:
        """Returns what is measured over a queue, or over all, some seconds old at most.

        Raises:
            NotFoundError: There is no such queue.
            UnavailableError: The database does not answer.
        """
        report, until = self._reports.get(queue, (None, 0.0))
        if report is not None and self._clock() < until:
            return report
        if queue not in self._running:
            self._running[queue] = asyncio.create_task(self.fresh(queue))
            self._running[queue].add_done_callback(lambda _: self._running.pop(queue))
        return await asyncio.shield(self._running[queue])

    async def fresh(self, queue: str = "") -> QualityReport:
        """Returns what is measured now, for whoever decides by it.

        Raises:
            NotFoundError: There is no such queue.
            UnavailableError: The database does not answer.
        """
        started = perf_counter()
        judgements = await self._database.read(_judgements, queue)
        report = await asyncio.to_thread(measure, judgements)
        kept = max(_FRESH_SECONDS, FRESH_PER_SECOND_SPENT * (perf_counter() - started))
        self._reports[queue] = report, self._clock() + kept
        return report

    async def report_soon(self, queue: str = "", *, patience_seconds: float = 0.3) -> QualityReport | None:
        """Returns the report if it is there or nearly so, else the one before it, else None."""
        try:
            return await asyncio.wait_for(self.report(queue), patience_seconds)
        except TimeoutError:
            return self._reports.get(queue, (None, 0.0))[0]


def _judgements(session: Session, queue: str) -> list[Judgement]:
    check_queue(session, queue)
    return [judgement(record) for record in reading.rankings(session, queue=queue)]
