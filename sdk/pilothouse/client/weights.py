"""Clients of the weights service."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from pilothouse import tensors as wire
from pilothouse.client.base import AsyncClient, SyncClient, sendable
from pilothouse.client.policy_codec import floats
from pilothouse.client.push_plan import CHUNK_BYTES, PushPlan, plan_push
from pilothouse.client.types import KvPolicy, PushResult, TokenRow
from pilothouse.errors import (
    CorruptChunkError,
    DeadlineExceededError,
    DrainingError,
    InternalError,
    InvalidRequestError,
    PilothouseError,
    ProtocolError,
    QueueFullError,
    UnavailableError,
)
from pilothouse.v1 import weights_pb2, weights_pb2_grpc

Arrays = Mapping[str, npt.NDArray[np.generic]]

_KV_POLICIES: dict[KvPolicy | None, weights_pb2.KvPolicy] = {
    None: weights_pb2.KV_POLICY_UNSPECIFIED,
    "keep": weights_pb2.KV_POLICY_KEEP,
    "recompute": weights_pb2.KV_POLICY_RECOMPUTE,
}

_BROKEN = (UnavailableError, DrainingError, QueueFullError, CorruptChunkError)
"""After these an upload goes on from where the server has got to."""

_UNDECIDED = (UnavailableError, DeadlineExceededError)
"""After these a commit may or may not have happened; aborting could not undo it."""

_MAX_ATTEMPTS = 6
"""Broken streams in a row, without one byte of progress, before the push is given up."""

_FIRST_PAUSE_SECONDS = 0.2
"""Before an upload is taken up again; doubles with every failure in a row, up to 2 s."""


class _Progress:
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


class WeightsClient(SyncClient):
    """Replaces the weights of a running policy."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds)
        self._stub = weights_pb2_grpc.WeightsServiceStub(self._channel)

    def push(
        self,
        tensors: Arrays,
        *,
        run: str,
        epoch: int,
        version: int,
        parent: tuple[int, int] | None = None,
        unchanged: Collection[str] | Mapping[str, bytes] = (),
        probes: Sequence[TokenRow] = (),
        kv_policy: KvPolicy | None = None,
    ) -> PushResult:
        """Brings new weights into service as one transaction: all of them, or none.

        A broken upload goes on from the last byte that arrived. The arrays must not change meanwhile.

        Args:
            tensors: Every parameter of the model under its name in transformers; float32, float16 or bfloat16
                (``ml_dtypes.bfloat16``).
            run: Name of the training run, matching ``[a-z0-9._-]{1,64}``.
            epoch: Fencing token of this trainer.
            version: Version of these weights.
            parent: (epoch, version) that has the ``unchanged`` tensors; must be serving.
            unchanged: Names of tensors that ``parent`` has already; no bytes are sent for them. As a mapping
                to their digests (``PushResult.digests``) they are not hashed again either.
            probes: Sequences whose log-probs under the new weights come back as a proof.
            kv_policy: What happens to running sequences; None for the server's default.

        Raises:
            FencedError: A trainer of a newer epoch has taken over.
            StaleVersionError: The version is not above the one now serving.
            ParentMismatchError: ``parent`` is not serving.
            ManifestMismatchError: Names, shapes or types are not those of the served model.
            NonFiniteWeightsError: A tensor holds NaN or infinity.
            UnavailableError: The policy went away and did not come back in time.
        """
        commit = _commit_request(probes, kv_policy)
        plan = plan_push(tensors, unchanged)
        begin = _begin_request(plan, run, epoch, version, parent)
        commit.push_id = self._upload_all(plan, begin)
        try:
            answer = self._call(self._stub.CommitPush, commit)
        except PilothouseError as error:
            if not isinstance(error, _UNDECIDED):
                self._abort(commit.push_id)
            raise
        return _result(plan, answer)

    def rollback(self, kv_policy: KvPolicy | None = None) -> tuple[int, int]:
        """Goes back to the weights before the last commit; returns the (epoch, version) now serving.

        Raises:
            NoPreviousWeightsError: There are none.
        """
        request = weights_pb2.RollbackRequest(kv_policy=_kv_policy(kv_policy))
        answer = self._call(self._stub.Rollback, request)
        return answer.epoch, answer.version

    def _upload_all(self, plan: PushPlan, begin: weights_pb2.BeginPushRequest) -> str:
        """Begins, uploads, resumes; returns the transaction that has all bytes."""
        progress = _Progress()
        while True:
            push = self._call(self._stub.BeginPush, begin)  # of an open push: answers how far it has come
            progress.started(push.next_offset)
            try:
                self._upload(plan, push)
                return push.push_id
            except PilothouseError as error:
                try:
                    pause = progress.pause_seconds(error)
                except PilothouseError:
                    self._abort(push.push_id)
                    raise
            time.sleep(pause)

    def _upload(self, plan: PushPlan, push: weights_pb2.BeginPushResponse) -> None:
        if push.next_offset == plan.total_bytes:
            return
        chunks = plan.chunks(push.push_id, push.next_offset, _chunk_bytes(push))
        _check_complete(plan, self._call(self._stub.UploadPush, chunks).next_offset)

    def _abort(self, push_id: str) -> None:
        with suppress(PilothouseError):  # its lease ends it too; the first error is the one to tell
            self._call(self._stub.AbortPush, weights_pb2.AbortPushRequest(push_id=push_id))


class AsyncWeightsClient(AsyncClient):
    """Replaces the weights of a running policy, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds)
        self._stub = weights_pb2_grpc.WeightsServiceStub(self._channel)

    async def push(
        self,
        tensors: Arrays,
        *,
        run: str,
        epoch: int,
        version: int,
        parent: tuple[int, int] | None = None,
        unchanged: Collection[str] | Mapping[str, bytes] = (),
        probes: Sequence[TokenRow] = (),
        kv_policy: KvPolicy | None = None,
    ) -> PushResult:
        """As ``WeightsClient.push``."""
        commit = _commit_request(probes, kv_policy)
        plan = await asyncio.to_thread(plan_push, tensors, unchanged)
        begin = _begin_request(plan, run, epoch, version, parent)
        commit.push_id = await self._upload_all(plan, begin)
        try:
            answer = await self._call(self._stub.CommitPush, commit)
        except PilothouseError as error:
            if not isinstance(error, _UNDECIDED):
                await self._abort(commit.push_id)
            raise
        return _result(plan, answer)

    async def rollback(self, kv_policy: KvPolicy | None = None) -> tuple[int, int]:
        """As ``WeightsClient.rollback``."""
        request = weights_pb2.RollbackRequest(kv_policy=_kv_policy(kv_policy))
        answer = await self._call(self._stub.Rollback, request)
        return answer.epoch, answer.version

    async def _upload_all(self, plan: PushPlan, begin: weights_pb2.BeginPushRequest) -> str:
        progress = _Progress()
        while True:
            push = await self._call(self._stub.BeginPush, begin)
            progress.started(push.next_offset)
            try:
                await self._upload(plan, push)
                push_id: str = push.push_id
                return push_id
            except PilothouseError as error:
                try:
                    pause = progress.pause_seconds(error)
                except PilothouseError:
                    await self._abort(push.push_id)
                    raise
            await asyncio.sleep(pause)

    async def _upload(self, plan: PushPlan, push: weights_pb2.BeginPushResponse) -> None:
        if push.next_offset == plan.total_bytes:
            return
        try:
            answer = await self._call(self._stub.UploadPush, _in_threads(plan, push))
        except InternalError as error:
            # grpc.aio loses a status that arrives while it writes; what ended the push is asked for instead.
            await self._call(self._stub.GetPush, weights_pb2.GetPushRequest(push_id=push.push_id))
            raise UnavailableError(f"{self.target} broke the upload off") from error
        _check_complete(plan, answer.next_offset)

    async def _abort(self, push_id: str) -> None:
        with suppress(PilothouseError):
            await self._call(self._stub.AbortPush, weights_pb2.AbortPushRequest(push_id=push_id))


async def _in_threads(
    plan: PushPlan, push: weights_pb2.BeginPushResponse
) -> AsyncIterator[weights_pb2.UploadPushRequest]:
    """Yields the chunks, each copied and checked off the event loop."""
    chunks = plan.chunks(push.push_id, push.next_offset, _chunk_bytes(push))
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


@sendable()
def _begin_request(
    plan: PushPlan, run: str, epoch: int, version: int, parent: tuple[int, int] | None
) -> weights_pb2.BeginPushRequest:
    parent_epoch, parent_version = parent or (0, 0)
    return weights_pb2.BeginPushRequest(
        run=run,
        epoch=epoch,
        version=version,
        parent_epoch=parent_epoch,
        parent_version=parent_version,
        manifest=plan.manifest,
    )


def _kv_policy(name: KvPolicy | None) -> weights_pb2.KvPolicy:
    if name not in _KV_POLICIES:
        raise InvalidRequestError(f"kv_policy must be keep, recompute or None, got {name!r}")
    return _KV_POLICIES[name]


@sendable()
def _commit_request(probes: Sequence[TokenRow], kv_policy: KvPolicy | None) -> weights_pb2.CommitPushRequest:
    """Returns the message without its push id; made first, so that a mistake costs no upload."""
    request = weights_pb2.CommitPushRequest(kv_policy=_kv_policy(kv_policy))
    if len(probes):
        request.probes.CopyFrom(wire.encode_sequences(probes))
    return request


def _chunk_bytes(push: weights_pb2.BeginPushResponse) -> int:
    return min(CHUNK_BYTES, push.max_chunk_bytes or CHUNK_BYTES)


def _check_complete(plan: PushPlan, next_offset: int) -> None:
    if next_offset != plan.total_bytes:
        raise ProtocolError(f"the policy took {next_offset} of {plan.total_bytes} bytes and said nothing")


def _result(plan: PushPlan, answer: weights_pb2.CommitPushResponse) -> PushResult:
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
