"""The pages on which people rank and write, and the calls of their script."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from pilothouse.errors import NoTaskError, NotFoundError
from pilothouse.feedback.store import progress
from pilothouse.feedback.store.claims import Held
from pilothouse.feedback.tables import Kind
from pilothouse.feedback.web.forms import read_form, read_json
from pilothouse.feedback.web.inputs import Named, Submission, from_form, said
from pilothouse.feedback.web.queries import Nothing, kind_of, why_nothing
from pilothouse.feedback.web.site import Site, Visitor, render, site_of

SKIP_REASONS = {
    "unclear": "The question is unclear",
    "offensive": "I would rather not read this",
    "language": "I do not know the language or subject",
    "equal": "The answers are equally good",
    "other": "Something else",
}
"""Reasons of `submissions.SKIP_REASONS` as people read them."""
_WRITING_REASONS = {reason: text for reason, text in SKIP_REASONS.items() if reason != "equal"}
_NOT_YOURS = "This task is not yours any more."
_NO_TASK = {
    "assignment": "",
    "instructions": "",
    "turns": [{"role": "", "text": ""}],
    "answers": [""],
    "lease_seconds": 0,
}
"""Fills the form while it is hidden: a submission that is taken back needs one to come back to."""
FOLDERS = {Kind.RANKING: "rank", Kind.DEMONSTRATION: "write"}
"""Where the page of a kind of queue lies."""


async def show_work(request: Request, visitor: Visitor) -> Response:
    """The page of a queue: the task that the rater holds, or the next one."""
    site, queue = site_of(request), request.path_params["queue"]
    kind = await site.database.read(kind_of, queue)
    if not request.url.path.startswith(f"/{FOLDERS[kind]}/"):
        return RedirectResponse(f"/{FOLDERS[kind]}/{queue}", 303)
    task, nothing = await _claim(site, queue, visitor)
    return render(
        request,
        f"{FOLDERS[kind]}.html",
        visitor,
        queue=queue,
        task=task or _NO_TASK,
        nothing=nothing,
        submission=secrets.token_hex(16),
        reasons=SKIP_REASONS if kind is Kind.RANKING else _WRITING_REASONS,
        own=await _own_progress(site, visitor),
        undo_seconds=site.config.undo_seconds,
        max_characters=site.config.max_text_characters,
    )


async def submit_form(request: Request, visitor: Visitor) -> Response:
    """Takes the plain form of a browser without script, and goes on to the next task."""
    site, queue = site_of(request), request.path_params["queue"]
    kind = await site.database.read(kind_of, queue)
    body = from_form(await read_form(request))
    with _plainly(_NOT_YOURS):
        await site.desk.submit(said(body, visitor.person.id, site.texts))
    return RedirectResponse(f"/{FOLDERS[kind]}/{queue}", 303)


async def submit(request: Request, visitor: Visitor) -> Response:
    """Stores a submission; the same one again is answered alike."""
    site = site_of(request)
    body = await read_json(request, Submission)
    with _plainly(_NOT_YOURS):
        await site.desk.submit(said(body, visitor.person.id, site.texts))
    return JSONResponse({"undo_seconds": site.config.undo_seconds, **await _counts(site, visitor)})


async def next_task(request: Request, visitor: Visitor) -> Response:
    """Gives the rater's task of a queue; null, and why, where there is none."""
    site = site_of(request)
    queue = (await read_json(request, Named)).name
    await site.database.read(kind_of, queue)
    task, nothing = await _claim(site, queue, visitor)
    why = asdict(nothing) if nothing else None
    return JSONResponse({"task": task, "nothing": why, **await _counts(site, visitor)})


async def undo(request: Request, visitor: Visitor) -> Response:
    """Takes a submission back; its task is the rater's again."""
    site = site_of(request)
    submission = (await read_json(request, Named)).name
    with _plainly("There is nothing to take back."):
        held = await site.desk.undo(submission, visitor.person.id)
    return JSONResponse({"task": _task(site, held), **await _counts(site, visitor)})


async def renew(request: Request, visitor: Visitor) -> Response:
    """Extends the lease of a task that is being worked on."""
    site = site_of(request)
    assignment = (await read_json(request, Named)).name
    with _plainly(_NOT_YOURS):
        ends = await site.desk.renew(assignment, visitor.person.id)
    return JSONResponse({"lease_seconds": max(ends - site.clock(), 0.0)})


async def _claim(site: Site, queue: str, visitor: Visitor) -> tuple[dict[str, Any] | None, Nothing | None]:
    """Returns the rater's task, or why there is none."""
    rater = visitor.person.id
    try:
        return _task(site, await site.desk.claim(queue, rater)), None
    except NoTaskError:
        return None, await site.database.read(why_nothing, queue, rater)


@contextmanager
def _plainly(text: str) -> Iterator[None]:
    """Says in words for raters that something is not theirs."""
    try:
        yield
    except NotFoundError as error:
        raise NotFoundError(text) from error


async def _own_progress(site: Site, visitor: Visitor) -> progress.OwnProgress:
    return await site.database.read(_read_progress, visitor.person.id, midnight(site))


async def _counts(site: Site, visitor: Visitor) -> dict[str, int]:
    own = await _own_progress(site, visitor)
    return {"today": own.today, "total": own.total}


def midnight(site: Site) -> float:
    """Returns when today began, UTC."""
    now = datetime.fromtimestamp(site.clock(), UTC)
    return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _read_progress(session: Session, rater: str, since: float) -> progress.OwnProgress:
    return progress.own_progress(session, rater, since=since)


def _task(site: Site, held: Held) -> dict[str, Any]:
    """Returns a task as the template and the script show it. Nothing in it tells who wrote an answer."""
    prompt = [("", held.prompt.text)] if held.prompt.text else held.prompt.messages
    return {
        "assignment": held.id,
        "instructions": held.instructions,
        "turns": [{"role": role, "text": text} for role, text in prompt],
        "answers": [answer.text for answer in held.answers],
        "lease_seconds": max(held.lease_expires_at - site.clock(), 0.0),
    }
