"""Keeps the gauges over all queues true by itself: a scrape neither waits for the database nor asks it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import perf_counter

import structlog

from pilothouse.errors import PilothouseError
from pilothouse.feedback import metrics
from pilothouse.feedback.database import Database
from pilothouse.feedback.measures import FRESH_PER_SECOND_SPENT, Measures
from pilothouse.feedback.store.progress import progress

_SECONDS = 5.0
"""Between two looks at the database, at least."""

_log = structlog.get_logger()


@asynccontextmanager
async def kept_true(database: Database, measures: Measures) -> AsyncIterator[None]:
    """Sets open tasks and agreement while inside, whenever something has come in."""
    task = asyncio.create_task(_keep(database, measures))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _keep(database: Database, measures: Measures) -> None:
    measured = None
    while True:
        started = perf_counter()
        try:
            now = await database.read(progress)
            metrics.OPEN_TASKS.set(now.open_tasks)
            if now != measured:
                metrics.ALPHA.set((await measures.fresh()).alpha.value)
                measured = now
        except PilothouseError as error:
            _log.warning("open tasks and agreement are not measured", problem=str(error))
        await asyncio.sleep(max(_SECONDS, FRESH_PER_SECOND_SPENT * (perf_counter() - started)))
