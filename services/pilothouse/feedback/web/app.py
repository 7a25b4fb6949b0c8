"""Puts the page together: an ASGI application over the database."""

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from pilothouse.errors import PilothouseError
from pilothouse.feedback.codec import Decoder
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.desk import Desk
from pilothouse.feedback.measures import Measures
from pilothouse.feedback.web import account, admin, admin_acts, home, work
from pilothouse.feedback.web.assets import Assets
from pilothouse.feedback.web.attempts import Attempts
from pilothouse.feedback.web.failures import (
    on_departure,
    on_http_error,
    on_pilothouse_error,
    on_unforeseen_error,
)
from pilothouse.feedback.web.gate import Endpoint, for_admins, for_anyone, for_raters
from pilothouse.feedback.web.guard import Guard
from pilothouse.feedback.web.passwords import Passwords
from pilothouse.feedback.web.rendering import make_environment
from pilothouse.feedback.web.site import Site

_BYTES_PER_CHARACTER = 12  # a character of four bytes in a form
_TEXTS_PER_REQUEST = 10  # nine corrections and a comment
_BYTES_BESIDES = 64 * 2**10


def make_app(
    database: Database,
    config: FeedbackConfig,
    *,
    measures: Measures | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Returns the page.

    Args:
        database: Open and migrated; the caller closes it.
        config: Settings of the service.
        measures: Of the same database, where somebody else reads them too.
        clock: Seconds since 1970-01-01 UTC.
    """
    assets = Assets()
    most = _BYTES_BESIDES + _TEXTS_PER_REQUEST * _BYTES_PER_CHARACTER * config.max_text_characters
    app = _Page(lambda inner: Guard(inner, config.page, most), assets)
    app.state.site = Site(
        database=database,
        config=config,
        clock=clock,
        templates=make_environment(assets),
        texts=Decoder(config.max_text_characters),
        passwords=Passwords(),
        logins=Attempts(config.page.login_attempts_per_minute, clock),
        measures=measures or Measures(database, clock),
        desk=Desk(database, config, clock),
    )
    return app


class _Page(Starlette):
    """Starlette, with the guard around its own answer to faults too."""

    def __init__(self, guard: Callable[[ASGIApp], ASGIApp], assets: Assets) -> None:
        self._guard = guard
        super().__init__(
            routes=[Route("/static/{version}/{name}", assets.serve, methods=["GET"]), *_routes()],
            exception_handlers={
                HTTPException: on_http_error,
                PilothouseError: on_pilothouse_error,
                ClientDisconnect: on_departure,
                Exception: on_unforeseen_error,
            },
        )

    def build_middleware_stack(self) -> ASGIApp:
        return self._guard(super().build_middleware_stack())


def _routes() -> list[Route]:
    return [
        _get("/login", for_anyone(account.show_login)),
        _post("/login", for_anyone(account.login)),
        _get("/invite", for_anyone(account.show_invite)),
        _post("/invite", for_anyone(account.register)),
        _post("/logout", for_raters(account.logout)),
        _get("/", for_raters(home.home)),
        _get("/help", for_raters(home.help_page)),
        _post("/api/submit", for_raters(work.submit)),
        _post("/api/next", for_raters(work.next_task)),
        _post("/api/undo", for_raters(work.undo)),
        _post("/api/renew", for_raters(work.renew)),
        _get("/admin", for_admins(admin.show_queues)),
        _get("/admin/queue/{queue}", for_admins(admin.show_queue)),
        _post("/admin/queue/{queue}", for_admins(admin_acts.pause_queue)),
        _get("/admin/task", for_admins(admin.find_task)),
        _get("/admin/task/{task}", for_admins(admin.show_task)),
        _post("/admin/task/{task}", for_admins(admin_acts.adjust)),
        _get("/admin/agreement", for_admins(admin.show_agreement)),
        _get("/admin/bias", for_admins(admin.show_bias)),
        _get("/admin/raters", for_admins(admin.show_raters)),
        _post("/admin/raters/{rater}", for_admins(admin_acts.set_rater)),
        _get("/admin/events", for_admins(admin.show_events)),
        _get("/admin/invites", for_admins(admin_acts.show_invites)),
        _post("/admin/invites", for_admins(admin_acts.invite)),
        *(_get(f"/{folder}/{{queue}}", for_raters(work.show_work)) for folder in work.FOLDERS.values()),
        *(_post(f"/{folder}/{{queue}}", for_raters(work.submit_form)) for folder in work.FOLDERS.values()),
    ]


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["GET"])


def _post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["POST"])
