"""What the pages share, and how one is answered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse

from pilothouse.feedback.codec import Decoder
from pilothouse.feedback.config import FeedbackConfig
from pilothouse.feedback.database import Database
from pilothouse.feedback.desk import Desk
from pilothouse.feedback.measures import Measures
from pilothouse.feedback.store.people import Person
from pilothouse.feedback.web.attempts import Attempts
from pilothouse.feedback.web.cookies import form_token, theme
from pilothouse.feedback.web.passwords import Passwords


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One running page."""

    database: Database
    config: FeedbackConfig
    clock: Callable[[], float]
    """Seconds since 1970-01-01 UTC."""
    templates: Environment
    texts: Decoder
    """Checks what people write."""
    passwords: Passwords
    logins: Attempts
    measures: Measures
    desk: Desk
    seen: dict[str, float] = field(default_factory=dict)
    """When each session was last noted to be in use, by the digest of its secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is logged in."""

    person: Person
    secret: str
    """Value of the session's cookie."""

    @property
    def form_token(self) -> str:
        """What this visitor's forms carry."""
        return form_token(self.secret)


def site_of(request: Request) -> Site:
    """Returns the site that a request came to."""
    site: Site = request.app.state.site
    return site


def known_visitor(request: Request) -> Visitor | None:
    """Returns who was found to be logged in while this request was answered; None for nobody yet."""
    return getattr(request.state, "visitor", None)


def render(
    request: Request, template: str, visitor: Visitor | None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """Answers with a page."""
    page = site_of(request).templates.get_template(template)
    html = page.render(
        visitor=visitor,
        theme=theme(request),
        path=request.url.path,
        **{"token": visitor.form_token if visitor else "", **values},
    )
    return HTMLResponse(html, status)
