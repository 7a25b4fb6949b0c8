"""Puts the feedback service together."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.gauges import kept_true
from pilothouse.feedback.measures import Measures
from pilothouse.feedback.servicer import FeedbackServicer
from pilothouse.feedback.web.app import make_app
from pilothouse.feedback.web.server import PageServer
from pilothouse.server import Server, listening
from pilothouse.v1 import feedback_pb2_grpc

_log = structlog.get_logger()


@asynccontextmanager
async def build(config: FeedbackConfig) -> AsyncIterator[Sequence[Server]]:
    """Listens, migrates the database, opens the page and yields the one server, not yet serving.

    Raises:
        PilothouseError: The database does not answer, or the page cannot listen.
    """
    server = Server(config.server, "feedback")
    server.services("pilothouse.v1.FeedbackService")
    async with listening([server]), _database(config) as database:
        measures = Measures(database, time.time)
        async with kept_true(database, measures), _page(config, database, measures) as address:
            servicer = FeedbackServicer(database, config, measures, page_address=address)
            feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(servicer, server.grpc)
            yield [server]


@asynccontextmanager
async def _database(config: FeedbackConfig) -> AsyncIterator[Database]:
    database = Database(config.database)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@asynccontextmanager
async def _page(config: FeedbackConfig, database: Database, measures: Measures) -> AsyncIterator[str]:
    """Yields the address of the page; empty where none is wanted."""
    if config.page.port < 0:
        yield ""
        return
    page = PageServer(make_app(database, config, measures=measures), config.page)
    port = await page.start()
    address = config.page.address or f"http://{config.page.host}:{port}"
    _log.info("page", address=address)
    try:
        yield address
    finally:
        await page.stop()
