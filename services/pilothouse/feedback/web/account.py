"""Logging in and out, and registering with an invitation."""

import re
import unicodedata

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilothouse.errors import InvalidRequestError, NotFoundError
from pilothouse.feedback.store import people
from pilothouse.feedback.web.cookies import SESSION, VISIT, drop_cookie, set_cookie
from pilothouse.feedback.web.forms import read_form
from pilothouse.feedback.web.gate import visitor_of
from pilothouse.feedback.web.passwords import MIN_CHARACTERS
from pilothouse.feedback.web.site import Site, Visitor, render, site_of

_MAX_NAME = 64
_MAX_PATH = 1_024
_OWN_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
"""Two slashes, or a slash and a backslash, would begin the name of another site."""


async def show_login(request: Request, token: str) -> Response:
    """The login form; it remembers the page that was asked for."""
    visitor = await visitor_of(request)
    following = own_path(request.query_params.get("next", ""))
    return render(request, "login.html", visitor, token=token, error="", name="", following=following)


async def login(request: Request, token: str) -> Response:
    """Logs in, if name and password are right: a new session with a new secret."""
    site = site_of(request)
    form = await read_form(request)
    name, following = _folded(form.get("name", "")), own_path(form.get("next", ""))
    keys = _limit(request, site, name.casefold())
    found = await site.database.read(people.credentials, name)
    person, stored = found if found else (None, None)
    right = await site.passwords.matches(form.get("password", ""), stored)
    if person is None or not right:
        error = "Name or password is wrong."
        told = {"token": token, "error": error, "name": name, "following": following}
        return render(request, "login.html", None, status=401, **told)
    if person.state != "active":
        raise HTTPException(403, "This account is closed. Ask whoever invited you.")
    site.logins.forgive(*keys)
    return await _enter(site, person.id, following)


async def logout(request: Request, visitor: Visitor) -> Response:
    """Ends the session."""
    site = site_of(request)
    await site.database.write(people.close_session, visitor.secret)
    response = RedirectResponse("/login", 303)
    drop_cookie(response, site.config.page, SESSION)
    return response


async def show_invite(request: Request, token: str) -> Response:
    """The form that takes an invitation."""
    return _show_invite(request, token, visitor=await visitor_of(request))


async def register(request: Request, token: str) -> Response:
    """Uses an invitation up: a new rater, logged in."""
    site = site_of(request)
    form = await read_form(request)
    code = form.get("code", "").rpartition("#")[2].strip()  # people paste the whole link, too
    name = _folded(form.get("name", ""))
    keys = _limit(request, site)
    try:
        _check_name(name)
        if not await site.database.read(people.valid_invite, code, now=site.clock()):
            raise NotFoundError("This invitation does not exist, was used or has run out. Ask for a new one.")
        hashed = await site.passwords.hash(form.get("password", ""))
        rater = await site.database.write(
            people.register, token=code, name=name, password_hash=hashed, now=site.clock()
        )
    except (InvalidRequestError, NotFoundError) as error:
        status = 404 if isinstance(error, NotFoundError) else 400
        return _show_invite(request, token, status=status, error=str(error), code=code, name=name)
    site.logins.forgive(*keys)
    return await _enter(site, rater, "/")


def own_path(text: str) -> str:
    """Returns a path on this site as it was given, and ``/`` for anything that might lead elsewhere."""
    return text if _OWN_PATH.fullmatch(text) and len(text) <= _MAX_PATH else "/"


async def _enter(site: Site, rater: str, path: str) -> Response:
    secret = await site.database.write(people.open_session, rater, now=site.clock())
    response = RedirectResponse(path, 303)
    set_cookie(response, site.config.page, SESSION, secret, seconds=3600 * site.config.page.session_hours)
    drop_cookie(response, site.config.page, VISIT)
    return response


def _limit(request: Request, site: Site, name: str = "") -> list[str]:
    """Counts a try of the address and the name."""
    client = request.client.host if request.client else ""
    keys = [f"address {client}", *([f"name {name[:_MAX_NAME]}"] if name else [])]
    if not site.logins.take(*keys):
        raise HTTPException(429, "Wait a minute before you try again.")
    return keys


def _folded(name: str) -> str:
    """Returns one spelling of names that look the same."""
    return unicodedata.normalize("NFKC", name).strip()


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidRequestError(f"A name has 1 to {_MAX_NAME} visible characters.")


def _show_invite(
    request: Request,
    token: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    error: str = "",
    code: str = "",
    name: str = "",
) -> Response:
    return render(
        request,
        "invite.html",
        visitor,
        status=status,
        token=token,
        error=error[:1].upper() + error[1:],
        code=code,
        wrong_code=status == 404,
        name=name,
        min_characters=MIN_CHARACTERS,
    )
