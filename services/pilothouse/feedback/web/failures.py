"""Turns errors into pages, and into JSON where a script asked."""

from http import HTTPStatus

import grpc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pilothouse.errors import (
    AssignmentClosedError,
    LeaseLostError,
    PilothouseError,
    RaterBarredError,
    SubmissionConflictError,
    UndoTooLateError,
)
from pilothouse.feedback.web.gate import visitor_of
from pilothouse.feedback.web.site import Visitor, known_visitor, render

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_TITLES = {
    400: "That did not work",
    401: "You are logged out",
    403: "Not allowed",
    404: "Nothing here",
    409: "Too late",
    413: "Too long",
    429: "Too many tries",
    500: "Something broke",
    503: "Busy",
}
_TEXTS = {
    404: "There is no page at this address.",
    405: "This address does not take that.",
    500: "The fault is ours and is in the server's log. Drafts are kept in this browser; try again soon.",
}

_ANSWERED = "You have already answered or skipped this one, in another tab."
_PLAINLY: dict[type[PilothouseError], str] = {
    AssignmentClosedError: _ANSWERED,
    LeaseLostError: "This task went to somebody else while you were away.",
    SubmissionConflictError: _ANSWERED,  # tabs share a draft and its id
    UndoTooLateError: "It is too late to take this back.",
    RaterBarredError: "You may not work here at present. Ask whoever invited you.",
}
"""What raters read, where the error's own message is for developers."""


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers a refusal of the pages themselves."""
    assert isinstance(error, HTTPException)
    standard = HTTPStatus(error.status_code).phrase
    text = error.detail if error.detail != standard else _TEXTS.get(error.status_code, standard)
    return await _answer(request, error.status_code, text, reason="HTTP", headers=error.headers)


async def on_pilothouse_error(request: Request, error: Exception) -> Response:
    """Answers an error that the store raised on purpose."""
    assert isinstance(error, PilothouseError)
    status = _STATUS.get(error.code, 500)
    text = _PLAINLY.get(type(error), str(error)) if status != 500 else _TEXTS[500]
    return await _answer(request, status, text, reason=error.reason)


async def on_departure(request: Request, error: Exception) -> Response:
    """Answers a client that left, or was cut off, before its request had arrived: nobody hears it."""
    return Response(status_code=400)


async def on_unforeseen_error(request: Request, error: Exception) -> Response:
    """Answers a fault. Starlette raises it again, so that it reaches the log."""
    return await _answer(request, 500, _TEXTS[500], reason="INTERNAL")


async def _answer(
    request: Request, status: int, text: str, *, reason: str, headers: object = None
) -> Response:
    extra = dict(headers) if isinstance(headers, dict) else {}
    if status in (429, 503):
        extra.setdefault("retry-after", "60" if status == 429 else "2")
    if request.url.path.startswith("/api/"):
        return JSONResponse({"reason": reason, "message": text}, status, extra)
    sentence = text[:1].upper() + text[1:]
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    visitor = await _visitor(request, status)
    page = render(request, "error.html", visitor, status=status, title=title, text=sentence, code=status)
    page.headers.update(extra)
    return page


async def _visitor(request: Request, status: int) -> Visitor | None:
    """Returns who is logged in, as far as that is known; what is broken is not asked again."""
    known = known_visitor(request)
    if known is not None or status >= 500:
        return known
    try:
        return await visitor_of(request)
    except PilothouseError:
        return None
