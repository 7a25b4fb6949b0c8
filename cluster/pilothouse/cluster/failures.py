"""What the API server refuses, and what keeps it from being reached, as errors of the one tree."""

import json
import re
import ssl
from dataclasses import dataclass
from typing import Any

from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from pilothouse.errors import (
    AlreadyExistsError,
    ConfigError,
    ConflictError,
    GoneError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PilothouseError,
    UnavailableError,
)

_USER = re.compile(r'User "([^"]*)"')
_MISSING_RIGHT = re.compile(r"cannot \S+ (resource|path)")
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wanted, in the words of roles."""

    verb: str
    resource: str
    """With the part of it, where one is asked for: ``pods/log``."""
    group: str = ""
    name: str = ""
    namespace: str = ""
    """Empty for objects outside of namespaces."""

    @property
    def words(self) -> str:
        """For people: ``list pods in namespace rlhf``."""
        what = f"{self.verb} {self.resource}" + (f" {self.name}" if self.name else "")
        return what + (f" in namespace {self.namespace}" if self.namespace else "")

    @property
    def rule(self) -> str:
        """The rule of a role that allows it."""
        return (
            f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], '
            f"verbs: [{', '.join(self.verb.split(' and '))}]}}"
        )


def from_status(code: int, body: bytes, asked: Asked) -> PilothouseError:
    """Returns the error for an answer that is none.

    Args:
        code: HTTP status, or the ``code`` of an error in a watch.
        body: A ``Status`` object, or what a proxy says.
        asked: What was asked.
    """
    status = _status(body)
    message = " ".join(str(status.get("message") or body[:_LONGEST].decode("utf-8", "replace")).split())
    reason = status.get("reason")
    match code:
        case 401:
            return PermissionDeniedError(
                "the API server does not know these credentials; log in again, or choose another "
                "--context or --kubeconfig"
            )
        case 403:
            return _forbidden(message, asked)
        case 404:
            return _not_found(message, asked, known=bool(status.get("details", {}).get("name")))
        case 409 if reason == "AlreadyExists":
            return AlreadyExistsError(f"{message}; choose another name, or delete it first")
        case 409:
            return ConflictError(f"cannot {asked.words}: {message}")
        case 410:
            return GoneError(f"cannot {asked.words}: {message}")
        case 400 | 413 | 415 | 422:
            return InvalidRequestError(f"the API server refuses to {asked.words}: {message}")
        case 504 if "Too large resource version" in message:  # it was restored from a backup
            return GoneError(f"cannot {asked.words}: {message}")
        case 429:
            return UnavailableError(f"the API server has too much to do: {message}; try again")
        case _ if code >= 500:
            return UnavailableError(f"cannot {asked.words}: the API server fails: {message}; try again")
        case _:
            return InternalError(f"cannot {asked.words}: the API server answers {code}: {message}")


def from_transport(error: Exception, server: str) -> PilothouseError:
    """Returns the error for a connection that was not made or broke."""
    cause: Any = error
    while isinstance(cause, MaxRetryError) and cause.reason is not None:
        cause = cause.reason
    inner = cause.args[0] if isinstance(cause, SSLError) and cause.args else cause
    if isinstance(inner, ssl.SSLCertVerificationError):
        return ConfigError(
            f"the certificate of {server} is refused: {inner.verify_message}; check "
            "certificate-authority-data of the cluster in the kubeconfig"
        )
    text = " ".join(str(cause).split())
    text = text.split(": ", 1)[1] if re.match(r"^\S*(Connection|Pool)\S*\(", text) and ": " in text else text
    return UnavailableError(
        f"cannot reach the API server {server}: {text[:_LONGEST]}; check the network, the VPN and "
        "--context, or try again"
    )


TRANSPORT = (HTTPError, OSError)
"""What is raised where a connection is not made or breaks."""


def _status(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _forbidden(message: str, asked: Asked) -> PilothouseError:
    """Tells a right that is missing from an object that a quota or a policy refuses."""
    if not _MISSING_RIGHT.search(message):
        return PermissionDeniedError(f"the cluster refuses to {asked.words}: {message}")
    user = _USER.search(message)
    where = f"a Role in {asked.namespace}" if asked.namespace else "a ClusterRole"
    return PermissionDeniedError(
        f"{user[1] if user else 'this account'} may not {asked.words}; {where} must allow it: {asked.rule}"
    )


def _not_found(message: str, asked: Asked, *, known: bool) -> PilothouseError:
    if known:
        where = f" in namespace {asked.namespace}" if asked.namespace else ""
        return NotFoundError(f"{message}{where}; check the name and --namespace")
    group = f" of {asked.group}" if asked.group else ""
    return NotFoundError(f"this cluster has no {asked.resource}{group}: {message}")
