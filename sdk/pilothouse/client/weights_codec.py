"""What the clients of the weights service share: messages, and how a broken upload goes on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pilothouse import tensors as wire
from pilothouse.client.base import sendable
from pilothouse.client.policy_codec import floats
from pilothouse.client.push_plan import CHUNK_BYTES, PushPlan
from pilothouse.client.types import KvPolicy, PushResult, TokenRow, WeightsState
from pilothouse.errors import (
    CorruptChunkError,
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    PilothouseError,
    ProtocolError,
    QueueFullError,
    UnavailableError,
)
from pilothouse.v1 import weights_pb2

Arrays = Mapping[str, npt.NDArray[np.generic]]

_KV_POLICIES: dict[KvPolicy | None, weights_pb2.KvPolicy] = {
    None: weights_pb2.KV_POLICY_UNSPECIFIED,
    "keep": weights_pb2.KV_POLICY_KEEP,
    "recompute": weights_pb2.KV_POLICY_RECOMPUTE,
}

_BROKEN = (UnavailableError, DrainingError, QueueFullError, CorruptChunkError)
"""After these an upload goes on from where the server has got to."""

STATE_SECONDS = 3.0
"""How long a policy may take to say what it serves."""

UNDECIDED = (UnavailableError, DeadlineExceededError)
"""After these a commit may or may not have happened; aborting could not undo it."""

_MAX_ATTEMPTS = 6
"""Broken streams in a row, without one byte of progress, before the push is given up."""

_FIRST_PAUSE_SECONDS = 0.2
"""Before an upload is taken up again; doubles with every failure in a row, up to 2 s."""


class Progress:
    """Decides whether and when a broken upload is taken up again."""

    def __init__(self) -> None:
        self._offset = -1
        self._attempts = 0

    def started(self, offset: int) -> None:
        """Notes where an attempt begins; getting further than the last one forgets its failures."""
        if offset > self._offset:
            self._offset, self._attempts = offset, 0

    def pause_seconds(self, error: PilothouseError) -> float:
        """Returns how long to wait before the next attempt; raises ``error`` if there is to be none."""
        self._attempts += 1
        if not isinstance(error, _BROKEN) or self._attempts >= _MAX_ATTEMPTS:
            raise error
        return error.retry_after_seconds or min(_FIRST_PAUSE_SECONDS * 2 ** (self._attempts - 1), 2.0)


@sendable()
def begin_request(
    plan: PushPlan, run: str, epoch: int, version: int, parent: tuple[int, int] | None
) -> weights_pb2.BeginPushRequest:
    """Returns the message that opens a push."""
    parent_epoch, parent_version = parent or (0, 0)
    return weights_pb2.BeginPushRequest(
        run=run,
        epoch=epoch,
        version=version,
        parent_epoch=parent_epoch,
        parent_version=parent_version,
        manifest=plan.manifest,
    )


def encode_kv_policy(name: KvPolicy | None) -> weights_pb2.KvPolicy:
    """Returns the wire's value.

    Raises:
        InvalidRequestError: There is none of this name.
    """
    if name not in _KV_POLICIES:
        raise InvalidRequestError(f"kv_policy must be keep, recompute or None, got {name!r}")
    return _KV_POLICIES[name]


@sendable()
def commit_request(probes: Sequence[TokenRow], kv_policy: KvPolicy | None) -> weights_pb2.CommitPushRequest:
    """Returns the message without its push id; made first, so that a mistake costs no upload."""
    request = weights_pb2.CommitPushRequest(kv_policy=encode_kv_policy(kv_policy))
    if len(probes):
        request.probes.CopyFrom(wire.encode_sequences(probes))
    return request


def chunk_bytes(push: weights_pb2.BeginPushResponse) -> int:
    """Returns how much goes into one message."""
    return min(CHUNK_BYTES, push.max_chunk_bytes or CHUNK_BYTES)


def check_complete(plan: PushPlan, next_offset: int) -> None:
    """Makes sure that an upload that ended well has arrived.

    Raises:
        ProtocolError: It has not.
    """
    if next_offset != plan.total_bytes:
        raise ProtocolError(f"the policy took {next_offset} of {plan.total_bytes} bytes and said nothing")


def result(plan: PushPlan, answer: weights_pb2.CommitPushResponse) -> PushResult:
    """Returns what a commit has answered.

    Raises:
        ProtocolError: Other weights serve than were pushed.
    """
    if answer.digest != plan.manifest.digest:
        raise ProtocolError("the policy serves weights with another digest than those pushed")
    has_probes = answer.HasField("probe_logprobs")
    return PushResult(
        epoch=answer.epoch,
        version=answer.version,
        digest=answer.digest.hex(),
        probe_logprobs=floats(answer.probe_logprobs, name="probe_logprobs")
        if has_probes
        else np.empty(0, np.float32),
        swap_seconds=answer.swap_seconds,
        uploaded_bytes=plan.total_bytes,
        digests=plan.digests,
    )


def state(answer: weights_pb2.GetWeightsResponse) -> WeightsState:
    """Returns what serves at a policy."""
    return WeightsState(
        instance=answer.instance,
        epoch=answer.epoch,
        version=answer.version,
        digest=answer.digest.hex(),
        fence=answer.fence,
        tokenizer_digest=answer.tokenizer_digest,
        arriving=(answer.open_epoch, answer.open_version) if answer.open_epoch else None,
    )
