"""Who may see a page. Every page passes one of these; every post is checked before its page runs."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.feedback.store import people
from pilothouse.feedback.web.cookies import SESSION, VISIT, form_token, get_cookie, new_visit, set_cookie
from pilothouse.feedback.web.forms import check_form
from pilothouse.feedback.web.site import Site, Visitor, known_visitor, site_of

Endpoint = Callable[[Request], Awaitable[Response]]
Page = Callable[[Request, Visitor], Awaitable[Response]]
OpenPage = Callable[[Request, str], Awaitable[Response]]

_SEEN_STEP_SECONDS = 30.0
_MAX_SEEN = 10_000


def for_raters(page: Page) -> Endpoint:
    """Runs a page for whoever is logged in; anybody else is sent to log in."""

    async def endpoint(request: Request) -> Response:
        visitor = await visitor_of(request)
        if visitor is None:
            if request.method == "POST":
                raise HTTPException(401, "You are logged out. Log in again; drafts are kept in this browser.")
            return RedirectResponse(_login_for(request), 303)
        if request.method == "POST":
            await check_form(request, site_of(request).config.page, visitor.form_token)
        return await page(request, visitor)

    return endpoint


def for_admins(page: Page) -> Endpoint:
    """Runs a page for admins."""

    async def checked(request: Request, visitor: Visitor) -> Response:
        if not visitor.person.admin:
            raise HTTPException(403, "This page is for admins.")
        return await page(request, visitor)

    return for_raters(checked)


def for_anyone(page: OpenPage) -> Endpoint:
    """Runs a page that needs no login; gives it the token of its form."""

    async def endpoint(request: Request) -> Response:
        settings = site_of(request).config.page
        visit = get_cookie(request, settings, VISIT)
        if request.method == "POST":
            if not visit:
                raise HTTPException(403, "This form has expired. Go back, reload the page and send it again.")
            await check_form(request, settings, form_token(visit))
            return await page(request, form_token(visit))
        visit = visit or new_visit()
        response = await page(request, form_token(visit))
        set_cookie(response, settings, VISIT, visit, seconds=3600 * settings.session_hours)
        return response

    return endpoint


async def visitor_of(request: Request) -> Visitor | None:
    """Returns who is logged in; None for nobody."""
    site = site_of(request)
    settings = site.config.page
    secret = get_cookie(request, settings, SESSION)
    if not secret:
        return None
    now = site.clock()
    person = await site.database.read(
        people.logged_in,
        secret,
        longest_seconds=3600 * settings.session_hours,
        idle_seconds=60 * settings.idle_minutes,
        now=now,
    )
    if person is None:
        return None
    await _note_seen(site, secret, now)
    request.state.visitor = Visitor(person=person, secret=secret)
    return known_visitor(request)


def _login_for(request: Request) -> str:
    """Returns the address of the login form, from which one comes back to the page that was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/login" if asked == "/" else f"/login?{urlencode({'next': asked})}"


async def _note_seen(site: Site, secret: str, now: float) -> None:
    """Notes that a browser is in use: not with every request, for each note is a write."""
    key = people.digest_of(secret)
    if now - site.seen.get(key, 0.0) < _SEEN_STEP_SECONDS:
        return
    if len(site.seen) >= _MAX_SEEN:
        site.seen.clear()
    site.seen[key] = now
    await site.database.write(people.touch_session, secret, now=now)
