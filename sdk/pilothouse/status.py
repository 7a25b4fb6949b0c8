"""Errors to and from a gRPC status.

The status carries ``google.rpc.ErrorInfo`` with the error's machine reason and, where trying again may help,
``google.rpc.RetryInfo`` and the ``grpc-retry-pushback-ms`` trailer that gRPC's own retries obey.
"""

import math
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from pilothouse import errors

STATUS_TRAILER = "grpc-status-details-bin"
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"

MAX_MESSAGE_BYTES = 1500
"""Longest message sent. It travels twice, once percent-encoded; details past about 11 KB break the call."""

_FALLBACKS: dict[grpc.StatusCode, type[errors.PilothouseError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.DATA_LOSS: errors.CorruptDataError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    # A server that dies or drains cancels what it had not begun; the caller itself did not cancel.
    grpc.StatusCode.CANCELLED: errors.UnavailableError,
}


_MENDS = {
    "certificate has expired": "renew the certificate of that side",
    "certificate is not yet valid": "set the clocks of both sides, or make that side's certificate again",
    "CERTIFICATE_VERIFY_FAILED": (
        "its certificate is not signed by an authority in this process's tls.ca_file: both sides need one"
    ),
    "Hostname Verification Check failed": (
        "its certificate does not name the host of {target}: call it by a name that it has, or set "
        "tls.server_name to one"
    ),
    "WRONG_VERSION_NUMBER": "it does not speak TLS, this process does: give both a section [tls], or neither",
}
"""What gRPC says of a failed handshake → what mends it."""
_HUNG_UP = (
    "it hung up: check the address, or, where it demands TLS, that this process has a section [tls] whose "
    "certificate it accepts (`pilothouse doctor` and its log say more)"
)


class WireStatus(NamedTuple):
    """What a failed call ends with."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def to_status(error: errors.PilothouseError) -> WireStatus:
    """Returns the status that carries ``error``, its details under 4 KB."""
    message = _shorten(str(error))
    status = status_pb2.Status(code=error.code.value[0], message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN))
    trailers: list[tuple[str, str | bytes]] = []
    if error.retry_after_seconds is not None:
        milliseconds = math.ceil(error.retry_after_seconds * 1000)
        hint = error_details_pb2.RetryInfo()
        hint.retry_delay.FromMilliseconds(milliseconds)
        status.details.add().Pack(hint)
        trailers.append((PUSHBACK_TRAILER, str(milliseconds)))
    trailers.append((STATUS_TRAILER, status.SerializeToString()))
    return WireStatus(error.code, message, tuple(trailers))


def from_rpc(error: grpc.RpcError, *, target: str = "the server") -> errors.PilothouseError:
    """Returns the error that the server raised, rebuilt as the same class.

    A status that no Pilothouse server made (a lost connection, a proxy's answer) becomes the class that fits
    its code.

    Args:
        error: What a stub raised, of the sync or the asyncio API.
        target: The server's address, for the message.
    """
    call: Any = error  # every error that a stub raises is a call too; RpcError itself has no methods
    code: grpc.StatusCode = call.code()
    text = call.details() or ""
    trailers = dict(call.trailing_metadata() or ())
    status = _parse(trailers.get(STATUS_TRAILER))
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == errors.DOMAIN:
            known = errors.BY_REASON.get(info.reason) or _FALLBACKS.get(code, errors.InternalError)
            return _with_hint(known(status.message), status)
    return _foreign(code, text, target)


def _foreign(code: grpc.StatusCode, text: str, target: str) -> errors.PilothouseError:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in text:
            return errors.InvalidRequestError(f"{target}: {text}; send smaller batches")
        return errors.QueueFullError(f"{target}: {text}")
    if code is grpc.StatusCode.UNAVAILABLE:
        return errors.UnavailableError(f"cannot reach {target}: {text}; {_mend(text, target)}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceededError(
            f"no answer from {target} in time; raise timeout_seconds or send smaller batches"
        )
    known = _FALLBACKS.get(code, errors.InternalError)
    return known(f"{target} answered {code.name}: {text}")


def _mend(text: str, target: str) -> str:
    """Says what mends a connection that could not be made.

    Of a refused certificate only the refusing side knows more than that the other one hung up.
    """
    mend = next((mend for sign, mend in _MENDS.items() if sign in text), "")
    if not mend and "last error:" in text and "Socket closed" in text:
        mend = _HUNG_UP
    return (mend or "check the address and that it is running").format(target=target)


def _with_hint(error: errors.PilothouseError, status: status_pb2.Status) -> errors.PilothouseError:
    error.retry_after_seconds = None
    for detail in status.details:
        hint = error_details_pb2.RetryInfo()
        if detail.Unpack(hint):
            error.retry_after_seconds = hint.retry_delay.ToMilliseconds() / 1000
    return error


def _parse(details: object) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(details if isinstance(details, bytes) else b"")
    except DecodeError:
        return status_pb2.Status()


def _shorten(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[: MAX_MESSAGE_BYTES - 4].decode(errors="ignore") + " ..."
