"""Cookies of the page, and the tokens in its forms, which are bound to them."""

import secrets

from blake3 import blake3
from starlette.requests import Request
from starlette.responses import Response

from pilothouse.feedback.config import PageConfig

SESSION = "session"
"""Who is logged in."""
VISIT = "visit"
"""A browser that is not logged in; it binds the forms of the login and invitation pages."""
THEMES = ("light", "dark")
"""What the cookie ``theme``, which the page's script writes, may say."""


def get_cookie(request: Request, page: PageConfig, name: str) -> str:
    """Returns a cookie that this server has set; empty without it."""
    return request.cookies.get(_full_name(page, name), "")


def set_cookie(response: Response, page: PageConfig, name: str, value: str, *, seconds: float) -> None:
    """Sets a cookie that no script reads and no other site's request carries."""
    response.set_cookie(
        _full_name(page, name),
        value,
        max_age=int(seconds),
        path="/",
        secure=is_encrypted(page),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(response: Response, page: PageConfig, name: str) -> None:
    """Takes a cookie away."""
    set_cookie(response, page, name, "", seconds=0)


def is_encrypted(page: PageConfig) -> bool:
    """Returns whether people reach the page over TLS."""
    return page.address.startswith("https://")


def new_visit() -> str:
    """Returns a value for `VISIT`."""
    return secrets.token_urlsafe(24)


def form_token(secret: str) -> str:
    """Returns what a form must carry: it takes the cookie's secret to compute, and tells nothing of it.

    It follows from the cookie alone, so that a page that is open survives a restart of the server.
    """
    material = secret.encode("utf-8", "surrogatepass")
    return blake3(material, derive_key_context="pilothouse feedback page form token v1").hexdigest()


def theme(request: Request) -> str:
    """Returns the theme that was chosen; empty for the system's."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else ""


def _full_name(page: PageConfig, name: str) -> str:
    # Browsers take a name with this prefix only with Secure, for the whole site and from no subdomain.
    return f"__Host-{name}" if is_encrypted(page) else name
