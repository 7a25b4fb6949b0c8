"""The page as a real server on a real SQLite file, in a thread of its own, with people and tasks in it."""

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload
from starlette.applications import Starlette

from pilothouse.feedback.config import FeedbackConfig, PageConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import people, queues
from pilothouse.feedback.store.queues import QueueSettings
from pilothouse.feedback.store.tasks import TaskRecord, add_tasks
from pilothouse.feedback.tables import Kind, Submission
from pilothouse.feedback.web.app import make_app
from pilothouse.feedback.web.server import PageServer

PASSWORD = "correct horse battery"
_HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
_NAMES = itertools.count(1)


class Running:
    """A page that can be killed, started again on its port, and sent into the future."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        page = PageConfig(**settings.pop("page", {}))
        self.config = FeedbackConfig(database=f"sqlite:///{folder / 'feedback.db'}", page=page, **settings)
        self.database = Database(self.config.database)
        self.database.migrate()
        self.later_seconds = 0.0
        self._clients: list[Client] = []
        self.app: Starlette
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.start()

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{self.config.page.host}:{self.port}"

    def now(self) -> float:
        """The server's time."""
        return time.time() + self.later_seconds

    def start(self, port: int = 0) -> None:
        """Serves a new application over the same database."""
        self.app = make_app(self.database, self.config, clock=self.now)
        page = self.config.page.model_copy(update={"port": port})
        self._server = PageServer(self.app, page)
        self.port: int = self._run(self._server.start())

    def stop(self) -> None:
        """Ends the server; the database stays."""
        self._run(self._server.stop())

    def close(self) -> None:
        """Ends everything."""
        for client in self._clients:
            client.close()
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.database.close()

    def add_person(self, name: str = "", *, admin: bool = False) -> str:
        """Adds somebody who can log in with `PASSWORD`; returns the rater's id."""
        return self.database.write_now(
            people.add_rater,
            name=name or f"person {next(_NAMES)}",
            admin=admin,
            password_hash=_HASH,
            now=self.now(),
        )

    def open_session(self, rater: str) -> str:
        """Returns the secret of a new session."""
        return self.database.write_now(people.open_session, rater, now=self.now())

    def invite(self, *, admin: bool = False, valid_seconds: float = 3600) -> str:
        """Returns the code of a new invitation."""
        return self.database.write_now(
            people.create_invite, admin=admin, valid_seconds=valid_seconds, actor="", now=self.now()
        )

    def fill(
        self, tasks: Sequence[TaskRecord], *, queue: str = "quality", kind: Kind = Kind.RANKING, **rules: Any
    ) -> None:
        """Makes a queue and puts tasks into it."""
        self.database.write_now(
            queues.put_queue, QueueSettings(name=queue, kind=kind, **rules), now=self.now()
        )
        self.database.write_now(add_tasks, queue, tasks, now=self.now())

    def stored(self, rater: str) -> list[Submission]:
        """Returns what a rater submitted, the oldest first."""
        return self.database.read_now(_submissions, rater)

    def client(self, rater: str | None = None, *, session: str = "") -> "Client":
        """Returns an HTTP client, logged in as a rater if one is named, or with a session's secret."""
        secret = self.open_session(rater) if rater else session
        cookies = {"session": secret} if secret else {}
        made = Client(base_url=self.url, cookies=cookies, headers={"origin": self.url})
        self._clients.append(made)
        return made

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


def _submissions(session: Session, rater: str) -> list[Submission]:
    rows = select(Submission).where(Submission.rater_id == rater).order_by(Submission.created_at)
    return list(session.scalars(rows.options(joinedload(Submission.assignment))))


class Client(httpx.Client):
    """A browser without script."""

    def token(self, path: str = "/help") -> str:
        """Returns the token of the forms on a page."""
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.get(path).text)
        assert found, f"{path} has no form"
        return found[1]

    def submit(self, path: str, *, of: str | None = None, **fields: str) -> httpx.Response:
        """Posts a form as the page ``of`` would."""
        return self.post(path, data={"token": self.token(of or path), **fields})

    def call(self, path: str, **body: Any) -> httpx.Response:
        """Posts JSON as the page's script would."""
        return self.post(path, json=body, headers={"x-form-token": self.token()})
