from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse import errors
from pilothouse.status import PUSHBACK_TRAILER, STATUS_TRAILER, from_rpc, to_status

Trailers = tuple[tuple[str, str | bytes], ...]


class Failed(grpc.RpcError):
    """A failed call, as a stub raises it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Trailers | None = ()) -> None:
        self._parts: Any = (code, details, trailers)

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str:
        return self._parts[1]

    def trailing_metadata(self) -> Trailers | None:
        return self._parts[2]


def crossed(error: errors.PilothouseError) -> errors.PilothouseError:
    status = to_status(error)
    return from_rpc(Failed(status.code, status.message, status.trailers))


@pytest.mark.parametrize("kind", errors.BY_REASON.values(), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_itself(kind: type[errors.PilothouseError]) -> None:
    back = crossed(kind("half the batch is missing; send the other half"))
    assert type(back) is kind
    assert str(back) == "half the batch is missing; send the other half"


@given(st.text(max_size=5000), st.none() | st.floats(0, 1000))
def test_details_stay_under_four_kilobytes_and_hints_survive(message: str, seconds: float | None) -> None:
    error = errors.PreconditionError(message)
    error.retry_after_seconds = seconds
    status = to_status(error)
    assert sum(len(key) + len(value) for key, value in status.trailers) < 4096
    hint = crossed(error).retry_after_seconds
    assert hint == (None if seconds is None else pytest.approx(seconds, abs=0.0011))


def test_a_hint_is_also_told_to_the_transport() -> None:
    trailers = dict(to_status(errors.QueueFullError("full", retry_after_seconds=0.25)).trailers)
    assert trailers[PUSHBACK_TRAILER] == "250"


def test_without_a_hint_the_transport_is_told_nothing() -> None:
    assert PUSHBACK_TRAILER not in dict(to_status(errors.NotFoundError("gone")).trailers)


def test_a_long_message_is_cut_and_says_so() -> None:
    assert to_status(errors.NotFoundError("é" * 4000)).message.endswith("é ...")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.UnavailableError),
        (grpc.StatusCode.CANCELLED, errors.UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceededError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.QueueFullError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.UnimplementedError),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequestError),
        (grpc.StatusCode.UNKNOWN, errors.InternalError),
    ],
)
def test_a_status_of_somebody_else_becomes_what_fits_its_code(
    code: grpc.StatusCode, kind: type[errors.PilothouseError]
) -> None:
    assert type(from_rpc(Failed(code, "proxy says no"), target="here:1")) is kind


def test_an_oversized_message_is_the_callers_mistake() -> None:
    text = "SERVER: Received message larger than max (9 vs. 4)"
    assert isinstance(from_rpc(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, text)), errors.InvalidRequestError)


def test_a_reason_of_a_newer_server_becomes_what_fits_its_code() -> None:
    class FutureError(errors.PreconditionError):
        """Known to the server only."""

    status = to_status(FutureError("not today"))
    del errors.BY_REASON[FutureError.reason]
    back = from_rpc(Failed(status.code, status.message, status.trailers))
    assert type(back) is errors.PreconditionError
    assert str(back) == "not today"


@pytest.mark.parametrize("details", [b"\xff\xff", "text", b""])
def test_broken_details_are_ignored(details: str | bytes) -> None:
    error = Failed(grpc.StatusCode.NOT_FOUND, "gone", ((STATUS_TRAILER, details),))
    assert isinstance(from_rpc(error), errors.NotFoundError)


def test_a_call_without_trailers_has_an_error_too() -> None:
    assert isinstance(from_rpc(Failed(grpc.StatusCode.NOT_FOUND, "gone", None)), errors.NotFoundError)
