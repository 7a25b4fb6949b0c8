"""The weight transaction: begin, upload, commit or abort; and rollback.

Until a commit has answered, and after any failure, the weights that served before go on serving. A commit
waits until every tensor is verified, proves that the new model gives finite numbers and swaps one pointer
between two decode steps. All methods run in one event loop.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Literal

from pilothouse.errors import (
    FencedError,
    IncompletePushError,
    InternalError,
    NoPreviousWeightsError,
    NotFoundError,
    PilothouseError,
    PushInProgressError,
)
from pilothouse.models.layout import shapes
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.metrics import PushMetrics
from pilothouse.policy.push import BACKLOG_BYTES, Committed, Offer, Progress, Push, Served, heard
from pilothouse.policy.requests import Version
from pilothouse.tensors import Tokens

KvPolicy = Literal["keep", "recompute"]

REMEMBERED = 64
"""Ended pushes whose fate is remembered."""


class WeightTransactions:
    """At most one open push at a time, and the weights now serving."""

    def __init__(
        self,
        engine: PolicyEngine,
        initial: Served,
        *,
        fence: int,
        lease_seconds: float,
        keep_previous: bool,
        kv_policy: KvPolicy,
        probe_tokens: int,
        metrics: PushMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts with the weights that the server loaded.

        Args:
            engine: Whose weights are replaced.
            initial: What it serves now.
            fence: Highest epoch that is known to have begun a push.
            lease_seconds: A push that nobody touches for this long is dropped.
            keep_previous: Keep the version before the current one, for ``rollback``.
            kv_policy: Where a commit names none.
            probe_tokens: Most tokens of one probe batch.
            metrics: Where figures go.
            clock: Monotonic seconds.
        """
        self.current = initial
        """What serves."""
        self.pushed = False
        """Whether a trainer has brought it, not the start or a peer."""
        self.taken_back = Version(0, 0)
        """Newest weights that a rollback has taken back, here or at a peer, since the last push."""
        self.lease_seconds = lease_seconds
        self._engine = engine
        self._previous: Served | None = None
        self._keep_previous = keep_previous
        self._kv_policy = kv_policy
        self._probe_tokens = probe_tokens
        self._metrics = metrics
        self._clock = clock
        self._shapes = shapes(initial.weights)
        self._fence = max(initial.version.epoch, fence)
        self._push: Push | None = None
        self._ended: OrderedDict[str, PilothouseError] = OrderedDict()
        metrics.serving(initial.version)

    async def begin(self, offer: Offer) -> Progress:
        """Opens a push, or answers with the one that the same offer has opened.

        Raises:
            FencedError: A newer epoch has begun.
            StaleVersionError: The version is not above the one now serving.
            ParentMismatchError: Unchanged tensors refer to another version, or differ from it.
            ManifestMismatchError: The manifest is not that of the served model.
            PushInProgressError: Another push of this epoch is open.
        """
        with self._rejections():
            if self._push is not None and self._push.swapping and self._push.commit is not None:
                await asyncio.wait([self._push.commit])
            push = self._push
            if push is not None and push.offer == offer and (push.answer is None or self._serves(push)):
                push.touched = self._clock()
                return push.progress
            offer.check_order(self.current, self._fence, self.taken_back)
            offer.manifest.check(self._shapes)
            offer.check_parent(self.current)
            self._displace(offer)
            self._fence = max(self._fence, offer.fence)
            self._push = Push(secrets.token_hex(8), offer, self._engine, self.current, self._clock())
            return self._push.progress

    async def upload(self, push_id: str, offset: int, data: bytes, crc32: int) -> int:
        """Takes one chunk and returns the first byte that has not arrived.

        Raises:
            InvalidChunkError: It is out of order, empty, too large or past the end.
            CorruptChunkError: Its CRC does not match.
            CorruptPushError, NonFiniteWeightsError: A tensor that is already complete cannot be used.
            NotFoundError, FencedError: The push has ended.
        """
        with self._rejections():
            push = self._find(push_id)
            push.write(offset, data, crc32)
            with self._fatal_to(push):
                await push.verified(BACKLOG_BYTES)
            return push.progress.next_offset

    async def commit(self, push_id: str, kv_policy: KvPolicy | None, probes: Sequence[Tokens]) -> Committed:
        """Verifies the push and swaps it in; again, answers the same.

        Raises:
            IncompletePushError: Bytes are missing.
            CorruptPushError: A tensor does not match its digest.
            NonFiniteWeightsError: A tensor, or what the new model computes, is not finite.
            FencedError, StaleVersionError, ParentMismatchError, NotFoundError: The push has been overtaken.
        """
        with self._rejections():
            push = self._find(push_id)
            if push.answer is not None:
                return push.answer
            _, arrived, total, _ = push.progress
            if arrived < total:
                raise IncompletePushError(
                    f"{arrived} of {total} bytes have arrived; upload the rest from offset {arrived}"
                )
            if push.commit is None:
                work = self._commit(push, kv_policy or self._kv_policy, probes)
                push.commit = asyncio.create_task(work)
                heard(push.commit)
            # A caller that leaves does not undo the commit; it can ask again.
            await asyncio.wait([push.commit])
            return push.outcome()

    def abort(self, push_id: str) -> None:
        """Drops a push and frees its memory. A push that has ended stays ended.

        Raises:
            NotFoundError: There never was such a push.
            PushInProgressError: It is just being swapped in, or has been.
        """
        push = self._push
        if push is None or push.push_id != push_id:
            if push_id not in self._ended:
                raise _unknown()
            return
        if push.swapping or push.answer is not None:
            raise PushInProgressError("the push has been committed; only an operator's rollback undoes it")
        self._drop(push, NotFoundError("the push was aborted; begin again"))

    @property
    def fence(self) -> int:
        """Highest epoch that has begun a push: older ones are refused."""
        return self._fence

    @property
    def arriving(self) -> Version | None:
        """Version of the open push."""
        push = self._push
        return None if push is None or push.answer is not None else push.offer.version

    def progress(self, push_id: str) -> Progress:
        """Reports how far a push has come.

        Raises:
            NotFoundError, FencedError and what else ended it: The push is no longer open.
        """
        return self._find(push_id).progress

    async def rollback(self, kv_policy: KvPolicy | None) -> Version:
        """Goes back to the weights before the last commit.

        Raises:
            NoPreviousWeightsError: There are none, or they are not kept.
            PushInProgressError: A push is just being swapped in.
        """
        if self._push is not None and self._push.swapping:
            raise PushInProgressError("a push is just being swapped in; roll back again in a second")
        if self._previous is None:
            raise NoPreviousWeightsError(
                "there are no earlier weights: nothing was pushed since the start or the last rollback, "
                "or keep_previous is off"
            )
        if self._push is not None:
            self._drop(self._push, NotFoundError("the operator has rolled the weights back; begin again"))
        back, self._previous = self._previous, None
        recompute = (kv_policy or self._kv_policy) == "recompute"
        swap = self._engine.swap(back.weights, back.version, recompute=recompute)
        going = heard(asyncio.create_task(self._go_back(back, swap)))
        # A caller that leaves does not undo it: the engine swaps whoever waits.
        await asyncio.wait([going])
        return going.result()

    async def _go_back(self, back: Served, swap: "Future[float]") -> Version:
        await asyncio.wrap_future(swap)
        self.note_taken_back(self.current.version)
        self._serve(back)
        return back.version

    def note_taken_back(self, version: Version) -> None:
        """Remembers until the next push that these weights, and older ones, are not to be copied."""
        self.taken_back = max(self.taken_back, version)

    def expire(self) -> None:
        """Drops the open push if its lease has run out."""
        push = self._push
        if push is None or push.answer is not None or push.commit is not None:
            return
        if self._clock() - push.touched > self.lease_seconds:
            self._metrics.rejected("LEASE_EXPIRED")
            why = f"nothing came for {self.lease_seconds:g} s, so the push was dropped; begin again"
            self._drop(push, NotFoundError(why))

    async def watch(self) -> None:
        """Expires leases until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self.lease_seconds / 4))
            self.expire()

    def _serves(self, push: Push) -> bool:
        return self.current.version == push.offer.version

    def _displace(self, offer: Offer) -> None:
        """Makes room for a new push: a newer epoch drops an open push, the same epoch must end it.

        A copy from a peer gives way to whatever a trainer brings.
        """
        push = self._push
        if push is None or push.answer is not None:
            return
        if push.offer.origin is not None:
            self._drop(push, NotFoundError("the trainer brings newer weights than the peer had"))
            return
        if offer.version.epoch == push.offer.version.epoch or offer.origin is not None:
            raise PushInProgressError(
                f"a push of version {push.offer.version.version} is open; commit or abort it, or wait "
                f"{self.lease_seconds:g} s"
            )
        self._drop(
            push, FencedError(f"a trainer of epoch {offer.version.epoch} has taken over; stop this one")
        )

    def _find(self, push_id: str) -> Push:
        push = self._push
        if push is None or push.push_id != push_id:
            raise self._ended.get(push_id) or _unknown()
        push.touched = self._clock()
        return push

    async def _commit(self, push: Push, kv_policy: KvPolicy, probes: Sequence[Tokens]) -> Committed:
        with self._fatal_to(push):
            await push.verified()
            logprobs = await push.prove(probes, self._probe_tokens)
            push.offer.check_order(self.current, self._fence, self.taken_back)
            push.offer.check_parent(self.current)
        push.swapping = True
        offer, weights = push.offer, push.weights
        swap = self._engine.swap(weights, offer.version, recompute=kv_policy == "recompute")
        held_up = await asyncio.wrap_future(swap)
        self.pushed = offer.origin is None
        # What served before a copy is not what served before the push of what was copied.
        self._previous = self.current if self._keep_previous and self.pushed else None
        self._serve(offer.served(weights))
        self.taken_back = Version(0, 0) if offer.origin is None else offer.origin.taken_back
        self._metrics.pushed(self._clock() - push.began)
        answer = Committed(offer.version, self.current.digest, logprobs, held_up)
        push.finish(answer)
        return answer

    def _serve(self, served: Served) -> None:
        self.current = served
        self._metrics.serving(served.version)

    def _drop(self, push: Push, error: PilothouseError) -> None:
        """Ends a push and remembers why."""
        push.drop(error)
        self._ended[push.push_id] = error
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if self._push is push:
            self._push = None

    @contextmanager
    def _rejections(self) -> Iterator[None]:
        try:
            yield
        except PilothouseError as error:
            self._metrics.rejected(error.reason)
            raise

    @contextmanager
    def _fatal_to(self, push: Push) -> Iterator[None]:
        """Drops the push where its content turns out to be bad or it has been overtaken."""
        try:
            yield
        except PilothouseError as error:
            self._drop(push, error)
            raise
        except Exception as error:  # out of memory, for one: its memory must not stay
            self._drop(push, InternalError("the push failed (the server's log has the cause); begin again"))
            raise error


def _unknown() -> NotFoundError:
    return NotFoundError("no push has this id; begin one")
