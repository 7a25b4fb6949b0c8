"""The database: SQLite embedded, PostgreSQL in production, the same statements on both."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from pilothouse.errors import ConfigError, QueueFullError, StorageFullError, UnavailableError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SQLITE_BUSY_SECONDS = 30.0
_READERS = 4
_POSTGRESQL_WORKERS = 16
_ATTEMPTS = 5
_RETRIED_STATES = ("40001", "40P01")  # serialisation failure, deadlock: PostgreSQL asks for another try


class Database:
    """Runs functions of a session, each in one transaction, in threads of its own.

    On SQLite a lock lets one writer in at a time: waiting in line costs nothing, where two writers who find
    the file locked would sleep and try again. Commits are durable when they return: WAL with synchronous
    FULL, and PostgreSQL's default.
    """

    def __init__(self, url: str) -> None:
        """Opens the database; creates the file of a SQLite one, which its owner alone may read.

        Raises:
            ConfigError: The URL is malformed, or its driver is not installed.
        """
        try:
            parsed = make_url(url)
            self.is_sqlite = parsed.get_backend_name() == "sqlite"
            if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
                raise ArgumentError(f"it is of {parsed.get_backend_name()}")
            self._engine = _sqlite(parsed.database or "") if self.is_sqlite else _postgresql(url)
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigError(
                f"feedback.database is not a database this service speaks to ({error}); write "
                "sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
            ) from None
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"feedback.database needs {error.name}; pip install 'pilothouse[feedback-postgresql]'"
            ) from None
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._writer = threading.Lock() if self.is_sqlite else nullcontext()
        workers = _READERS + 1 if self.is_sqlite else _POSTGRESQL_WORKERS
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="database")

    def migrate(self) -> None:
        """Brings the tables to this version of the program; several processes may do so at once.

        Raises:
            UnavailableError: The server does not answer.
        """
        with _understood(), self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7466547)")
            command.upgrade(alembic_config(connection), "head")

    async def write(
        self,
        function: Callable[Concatenate[Session, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Runs ``function(session, ...)`` in a transaction; its changes are durable when this returns.

        Raises:
            StorageFullError: The disk is full; nothing was stored.
            UnavailableError: The database does not answer.
        """
        return await self._in_thread(self.write_now, function, *args, **kwargs)

    async def read(
        self,
        function: Callable[Concatenate[Session, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Runs ``function(session, ...)`` on a consistent snapshot; it must change nothing.

        Raises:
            UnavailableError: The database does not answer.
        """
        return await self._in_thread(self.read_now, function, *args, **kwargs)

    def write_now(
        self,
        function: Callable[Concatenate[Session, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """As `write`, in the caller's thread."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _understood(), self._writer, self._sessions.begin() as session:
                    if self.is_sqlite:
                        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
                    return function(session, *args, **kwargs)
            except _TryAgain as error:
                if attempt == _ATTEMPTS:
                    raise QueueFullError("the database is overloaded; try again in a moment") from error
        raise AssertionError("unreachable")

    def read_now(
        self,
        function: Callable[Concatenate[Session, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """As `read`, in the caller's thread."""
        with _understood(), self._sessions() as session:
            if self.is_sqlite:
                session.connection().exec_driver_sql("BEGIN")
            else:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return function(session, *args, **kwargs)

    async def scrub(self) -> None:
        """Takes what was deleted out of SQLite's files, where its log would keep it for a while.

        PostgreSQL does so by itself, at its next vacuum.
        """
        if self.is_sqlite:
            await self._in_thread(self._scrub_now)

    def _scrub_now(self) -> None:
        with _understood(), self._writer, self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Ends the threads and the connections."""
        self._threads.shutdown()
        self._engine.dispose()

    async def _in_thread(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))


def alembic_config(connection: Connection) -> AlembicConfig:
    """Returns the settings of the migrations, for use on an open connection."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _sqlite(path: str) -> Engine:
    file = Path(path).expanduser()
    file.parent.mkdir(parents=True, exist_ok=True)
    if path != ":memory:":
        _keep_private(file)
    engine = create_engine(
        f"sqlite:///{file}",
        connect_args={"timeout": _SQLITE_BUSY_SECONDS, "check_same_thread": False},
        pool_size=_READERS + 1,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _keep_private(file: Path) -> None:
    """Makes the file, and shuts it and what SQLite keeps beside it to others: it holds hashes of passwords.

    SQLite gives new files beside it the same mode. What cannot be changed is left to the connection, which
    tells what is wrong.
    """
    with suppress(OSError):
        file.touch(mode=0o600)
    for each in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
        with suppress(OSError):
            each.chmod(0o600)


def _postgresql(url: str) -> Engine:
    return create_engine(url, pool_size=_POSTGRESQL_WORKERS, pool_pre_ping=True)


class _TryAgain(Exception):
    """The database undid a transaction that would succeed alone."""


@contextmanager
def _understood() -> Iterator[None]:
    """Turns the driver's complaints into errors that say what would mend them."""
    try:
        yield
    except OperationalError as error:
        state = getattr(error.orig, "sqlstate", None)
        text = str(error.orig)
        if state in _RETRIED_STATES:
            raise _TryAgain from error
        if state == "53100" or "database or disk is full" in text:
            raise StorageFullError("the disk is full: nothing was stored; free some space") from error
        if "locked" in text:
            raise QueueFullError("another process holds the database; try again in a moment") from error
        raise UnavailableError(
            f"the database does not answer ({text.splitlines()[0]}); check feedback.database and the server"
        ) from error
