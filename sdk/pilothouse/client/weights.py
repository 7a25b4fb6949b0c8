"""The blocking client of the weights service."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Unpack

import grpc

from pilothouse.client import weights_codec as codec
from pilothouse.client.base import SyncClient
from pilothouse.client.channels import Security
from pilothouse.client.push_plan import PushPlan, plan_push
from pilothouse.client.types import KvPolicy, PushResult, TokenRow, WeightsState
from pilothouse.errors import PilothouseError
from pilothouse.status import from_rpc
from pilothouse.v1 import weights_pb2, weights_pb2_grpc


@dataclass(frozen=True, slots=True)
class StagedPush:
    """Weights that a policy has received and does not serve yet: to be committed or aborted."""

    push_id: str
    plan: PushPlan


class WeightsClient(SyncClient):
    """Replaces the weights of a running policy."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = weights_pb2_grpc.WeightsServiceStub(self._channel)

    def push(
        self,
        tensors: codec.Arrays,
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
        commit = codec.commit_request(probes, kv_policy)  # first, so that a mistake costs no upload
        staged = self.stage(
            plan_push(tensors, unchanged), run=run, epoch=epoch, version=version, parent=parent
        )
        return self._commit(staged, commit)

    def stage(
        self, plan: PushPlan, *, run: str, epoch: int, version: int, parent: tuple[int, int] | None = None
    ) -> StagedPush:
        """Brings new weights to the policy without serving them: the first half of ``push``.

        A broken upload goes on from the last byte that arrived. For the other arguments and errors see
        ``push``.

        Args:
            plan: Of `pilothouse.client.push_plan.plan_push`; several policies may be given the same.
            run: Name of the training run.
            epoch: Fencing token of this trainer.
            version: Version of these weights.
            parent: (epoch, version) that has the plan's unchanged tensors.
        """
        push_id = self._upload_all(plan, codec.begin_request(plan, run, epoch, version, parent))
        return StagedPush(push_id, plan)

    def touch(self, staged: StagedPush) -> None:
        """Keeps a staged push from expiring while others are made.

        Raises:
            NotFoundError, FencedError: It has ended.
        """
        self._call(self._stub.GetPush, weights_pb2.GetPushRequest(push_id=staged.push_id))

    def commit(
        self, staged: StagedPush, *, probes: Sequence[TokenRow] = (), kv_policy: KvPolicy | None = None
    ) -> PushResult:
        """Brings staged weights into service; the second half of ``push``. Again, it answers the same."""
        return self._commit(staged, codec.commit_request(probes, kv_policy))

    def abort(self, staged: StagedPush) -> None:
        """Drops staged weights; where that fails, their lease drops them."""
        self._abort(staged.push_id)

    def state(self) -> WeightsState:
        """Returns which weights serve, and which are on their way; also while the policy is not ready.

        Asked once: who follows several replicas must not wait long for one that is gone.

        Raises:
            UnavailableError, DeadlineExceededError: The policy cannot be reached.
        """
        self._check_open()
        seconds = min(self.timeout_seconds, codec.STATE_SECONDS)
        try:
            answer = self._stub.GetWeights(weights_pb2.GetWeightsRequest(), timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc(error, target=self.target) from error
        return codec.state(answer)

    def rollback(self, kv_policy: KvPolicy | None = None) -> tuple[int, int]:
        """Goes back to the weights before the last commit; returns the (epoch, version) now serving.

        Raises:
            NoPreviousWeightsError: There are none.
        """
        request = weights_pb2.RollbackRequest(kv_policy=codec.encode_kv_policy(kv_policy))
        answer = self._call(self._stub.Rollback, request)
        return answer.epoch, answer.version

    def _commit(self, staged: StagedPush, request: weights_pb2.CommitPushRequest) -> PushResult:
        request.push_id = staged.push_id
        try:
            answer = self._call(self._stub.CommitPush, request)
        except PilothouseError as error:
            if not isinstance(error, codec.UNDECIDED):
                self._abort(staged.push_id)
            raise
        return codec.result(staged.plan, answer)

    def _upload_all(self, plan: PushPlan, begin: weights_pb2.BeginPushRequest) -> str:
        """Begins, uploads, resumes; returns the transaction that has all bytes."""
        progress = codec.Progress()
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
        chunks = plan.chunks(push.push_id, push.next_offset, codec.chunk_bytes(push))
        codec.check_complete(plan, self._call(self._stub.UploadPush, chunks).next_offset)

    def _abort(self, push_id: str) -> None:
        with suppress(PilothouseError):  # its lease ends it too; the first error is the one to tell
            self._call(self._stub.AbortPush, weights_pb2.AbortPushRequest(push_id=push_id))
