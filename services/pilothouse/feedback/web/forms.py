"""Reads what browsers post, and makes sure that it comes from a page of ours."""

import hmac
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.config import PageConfig

Model = TypeVar("Model", bound=BaseModel)

_MAX_FIELDS = 100
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


async def read_form(request: Request) -> dict[str, str]:
    """Returns the fields of a form; of a name that comes twice, the last.

    Raises:
        InvalidRequestError: It is no form.
    """
    if _media_type(request) != _FORM:
        raise InvalidRequestError(f"this address takes a form ({_FORM}); use the page")
    try:
        fields = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise InvalidRequestError("the form is malformed; reload the page and try again") from None
    # Browsers send line ends as CR LF; texts have LF.
    return {name: value.replace("\r\n", "\n") for name, value in fields}


async def read_json(request: Request, model: type[Model]) -> Model:
    """Returns the body as a value of ``model``.

    Raises:
        InvalidRequestError: It is no JSON, or not of the model's shape.
    """
    if _media_type(request) != _JSON:
        raise InvalidRequestError(f"this address takes {_JSON}; use the page")
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise InvalidRequestError(f"{where}: {first['msg']}; reload the page and try again") from None


async def check_form(request: Request, page: PageConfig, token: str) -> None:
    """Lets only posts of our own pages through.

    Raises:
        HTTPException: 403, where another site sent it or the page it comes from belongs to another login.
    """
    _check_origin(request, page)
    given = request.headers.get("x-form-token")
    if given is None:
        given = (await read_form(request)).get("token", "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode()):
        raise HTTPException(403, "This form has expired. Go back, reload the page and send it again.")


def own_origins(request: Request, page: PageConfig) -> set[str]:
    """Returns the origins of our pages: the configured address, and the checked Host of the request."""
    origins = {f"http://{request.headers.get('host', '').lower()}"}
    if page.address:
        parts = urlsplit(page.address.lower())
        origins.add(f"{parts.scheme}://{parts.netloc}")
    return origins


def _check_origin(request: Request, page: PageConfig) -> None:
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # Browsers leave the first away on unencrypted names; every browser sends the second with a post.
    ours = site == "same-origin" if site is not None else origin is not None
    if not ours or (origin is not None and origin.lower() not in own_origins(request, page)):
        raise HTTPException(
            403, "This request does not come from this site. Open the page itself and try again."
        )


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
