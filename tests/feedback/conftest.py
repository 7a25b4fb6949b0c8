"""A real database of each kind, and tasks to put into it."""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilothouse.feedback.database import Database
from pilothouse.feedback.records import AnswerRecord, PromptRecord, Source
from pilothouse.feedback.store import people, queues
from pilothouse.feedback.store.queues import QueueSettings
from pilothouse.feedback.store.tasks import TaskRecord, add_tasks
from pilothouse.feedback.tables import Kind

NOW = 1_000_000.0
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgresql(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[object, str], None]
) -> Iterator[str]:
    """URL of a PostgreSQL server of our own, without the name of a database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    require(found, "PostgreSQL; `make system-deps` installs it")
    programs = found[-1].parent
    folder = tmp_path_factory.mktemp("postgresql")
    # The server refuses to run as root.
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if drop:
        for parent in (folder, *folder.parents[:2]):
            parent.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = folder / "data", folder / "log"
    run = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run(
        [*drop, programs / "initdb", "-D", data, "-U", "pilothouse", "-A", "trust", "-E", "UTF8"], **run
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    start = [*drop, programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w"]
    subprocess.run([*start, "start"], **run)
    try:
        yield f"postgresql+psycopg://pilothouse@127.0.0.1:{port}"
    finally:
        # A run beside this one may have cleaned the folder away; then the server has ended by itself.
        subprocess.run([*start, "-m", "immediate", "stop"], **run | {"check": False})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    import psycopg

    server: str = request.getfixturevalue("postgresql")
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(server.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"{server}/{name}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A migrated database."""
    made = Database(url)
    made.migrate()
    yield made
    made.close()


def ranking_task(name: str, answers: int = 4, **fields: object) -> TaskRecord:
    """Returns a task with different answers."""
    return TaskRecord(
        id=name,
        prompt=PromptRecord(text=f"prompt of {name}", source="test"),
        answers=tuple(
            AnswerRecord(text=f"answer {number} of {name}", source=Source(model="policy", version=number))
            for number in range(answers)
        ),
        **fields,  # type: ignore[arg-type]
    )


def fill(database: Database, *tasks: TaskRecord, queue: str = "q", **settings: object) -> None:
    """Makes a queue of rankings and adds tasks."""
    rules = QueueSettings(name=queue, kind=Kind.RANKING, **settings)  # type: ignore[arg-type]
    database.write_now(queues.put_queue, rules, now=NOW)
    database.write_now(add_tasks, queue, tasks, now=NOW)


def raters(database: Database, count: int) -> list[str]:
    """Adds raters and returns their ids."""
    return [
        database.write_now(people.add_rater, name=f"person {next(_NUMBERS)}", now=NOW) for _ in range(count)
    ]
