"""The outermost layer: says what browsers may do with the pages, and refuses requests no page should see."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pilothouse.feedback.config import PageConfig

HEADERS = {
    # Trusted types: no script of ours may turn a text into markup, by mistake either.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    # With no-referrer, browsers would send `Origin: null` with our own forms, which tells nothing.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Guard:
    """Checks method, Host and size of a request, and sets the headers of every answer, errors included."""

    def __init__(self, app: ASGIApp, page: PageConfig, max_body_bytes: int) -> None:
        self._app = app
        self._page = page
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
        else:
            await self._app(scope, self._bounded(receive), send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("use GET or POST\n", 405, {"allow": "GET, HEAD, POST"})
        if not known_host(headers.get("host", ""), self._page):
            return PlainTextResponse("this server does not have that name; see feedback.page.address\n", 421)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            return PlainTextResponse(f"send at most {self._max_body_bytes} bytes\n", 413)
        return None

    def _bounded(self, receive: Receive) -> Receive:
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._max_body_bytes:
                    raise HTTPException(413, "That is more text than this service takes.")
            return message

        return bounded


def known_host(host: str, page: PageConfig) -> bool:
    """Returns whether a request's Host is a name of this server.

    Another site's name that resolves to this machine (DNS rebinding) is not: its scripts would be of our
    origin. An address in digits is no name that anybody else could own; it is taken where no address is
    configured.
    """
    host = host.lower()
    if page.address and host == urlsplit(page.address.lower()).netloc:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", page.host.lower()) and name:
        return True
    try:
        number = ipaddress.ip_address(name)
    except ValueError:
        return False
    return number.is_loopback or not page.address
