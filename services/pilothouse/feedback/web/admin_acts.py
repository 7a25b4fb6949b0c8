"""What admins do: pause queues, veto and flag, let raters in and out, invite. Each is in the audit log."""

from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.invitations import invite_url
from pilothouse.feedback.store import adjustments, events, people, queues
from pilothouse.feedback.tables import RaterState
from pilothouse.feedback.web.forms import read_form
from pilothouse.feedback.web.site import Visitor, render, site_of

Choice = TypeVar("Choice", bound=StrEnum)

_LIFT = "lift "
_MAX_REASON = 500
_VALID_DAYS = (1, 7, 30)


async def pause_queue(request: Request, visitor: Visitor) -> Response:
    """Stops handing out tasks of a queue, or goes on."""
    site = site_of(request)
    paused = (await read_form(request)).get("paused") == "yes"
    await site.database.write(
        _set_paused, request.path_params["queue"], paused, actor=visitor.person.id, now=site.clock()
    )
    return RedirectResponse("/admin", 303)


async def adjust(request: Request, visitor: Visitor) -> Response:
    """Vetoes or flags an answer of a task, or its prompt; or lifts that."""
    site, task = site_of(request), request.path_params["task"]
    form = await read_form(request)
    act = form.get("act", "")
    lift = act.startswith(_LIFT)
    kind = _one_of(adjustments.Adjustment, act.removeprefix(_LIFT))
    reason = site.texts.text(form.get("reason", "").strip()[:_MAX_REASON], "the reason")
    target = form.get("answer", "") or task
    change = adjustments.adjust_answer if form.get("answer") else adjustments.adjust_prompt
    await site.database.write(
        change, target, kind, lift=lift, reason=reason, actor=visitor.person.id, now=site.clock()
    )
    return RedirectResponse(f"/admin/task/{task}", 303)


async def set_rater(request: Request, visitor: Visitor) -> Response:
    """Lets a rater in, keeps one out, or forgets one, once the admin is sure."""
    site, rater = site_of(request), request.path_params["rater"]
    form = await read_form(request)
    act = form.get("act", "")
    if rater == visitor.person.id:
        raise HTTPException(403, "You cannot do this to yourself. Ask another admin.")
    if act == "erase" and form.get("sure") != "yes":
        person = await site.database.read(people.get_person, rater)
        return render(request, "admin_erase.html", visitor, person=person)
    if act == "erase":
        await site.database.write(people.erase, rater, actor=visitor.person.id, now=site.clock())
        await site.database.scrub()
    else:
        state = _one_of(RaterState, act)
        await site.database.write(people.set_state, rater, state, actor=visitor.person.id, now=site.clock())
    return RedirectResponse("/admin/raters", 303)


async def show_invites(request: Request, visitor: Visitor) -> Response:
    """The form that makes an invitation."""
    return render(request, "admin_invites.html", visitor, link="", days=_VALID_DAYS, chosen=7, admin=False)


async def invite(request: Request, visitor: Visitor) -> Response:
    """Makes an invitation and shows its link, this once."""
    site = site_of(request)
    form = await read_form(request)
    chosen = next((days for days in _VALID_DAYS if form.get("days") == str(days)), 7)
    admin = "admin" in form
    token = await site.database.write(
        people.create_invite,
        admin=admin,
        valid_seconds=86_400.0 * chosen,
        actor=visitor.person.id,
        now=site.clock(),
    )
    link = invite_url(site.config.page.address or f"http://{request.headers['host']}", token)
    return render(
        request, "admin_invites.html", visitor, link=link, days=_VALID_DAYS, chosen=chosen, admin=admin
    )


def _set_paused(session: Session, name: str, paused: bool, *, actor: str, now: float) -> None:
    rules = queues.settings_of(queues.get_queue(session, name))
    queues.put_queue(session, replace(rules, paused=paused), now=now)
    events.record(session, "pause" if paused else "go on", actor=actor, target=name, now=now)


def _one_of(choices: type[Choice], text: str) -> Choice:
    try:
        return choices(text)
    except ValueError:
        raise InvalidRequestError(f"'{text[:40]}' is none of {', '.join(choices)}; use the page") from None
