"""One weight push: its bytes are verified and put into the engine's layout while they still arrive."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from pilothouse.errors import (
    FencedError,
    NonFiniteWeightsError,
    ParentMismatchError,
    PilothouseError,
    StaleVersionError,
)
from pilothouse.models.weights import DecoderWeights
from pilothouse.policy.build import PIECE_BYTES, WeightBuild
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.manifest import Manifest, Staging
from pilothouse.policy.requests import Version
from pilothouse.policy.runner import logprobs_in_pieces
from pilothouse.tensors import Floats, Tokens

Waited = TypeVar("Waited")

MAX_CHUNK_BYTES = 2**20
BACKLOG_BYTES = 4 * PIECE_BYTES
"""Bytes that may wait to be verified before an upload waits too: it takes its pace from the engine."""


@dataclass(frozen=True, slots=True)
class Served:
    """One version of the weights."""

    version: Version
    weights: DecoderWeights
    digest: bytes
    """As in the manifest that brought them."""
    digests: Mapping[str, bytes]
    """Of every tensor, by name."""


class Origin(NamedTuple):
    """What is known of weights that are copied from a peer."""

    digest: bytes
    """As in the manifest that brought them to the peer."""
    digests: Mapping[str, bytes]
    """Of that manifest's tensors, by name."""
    fence: int
    """Highest epoch that has begun a push at the peer."""
    taken_back: Version
    """Newest weights that a rollback has taken back there."""


class Offer(NamedTuple):
    """What a trainer, or a peer, announces when it begins a push."""

    run: str
    version: Version
    parent: Version
    manifest: Manifest
    origin: Origin | None = None
    """Set where a peer's weights are copied."""

    @property
    def fence(self) -> int:
        """Below which epoch pushes are refused once this one has begun."""
        return self.version.epoch if self.origin is None else max(self.version.epoch, self.origin.fence)

    def served(self, weights: DecoderWeights) -> Served:
        """Returns what serves once this has been committed."""
        if self.origin is not None:
            return Served(self.version, weights, self.origin.digest, self.origin.digests)
        digests = {entry.name: entry.digest for entry in self.manifest.entries}
        return Served(self.version, weights, self.manifest.digest, digests)

    def check_order(self, current: Served, fence: int, taken_back: Version) -> None:
        """Makes sure that these weights may follow those that serve.

        Args:
            current: What serves.
            fence: Highest epoch that has begun a push.
            taken_back: Newest weights that a rollback has taken back.

        Raises:
            FencedError: A newer epoch has begun.
            StaleVersionError: The version is not above the one now serving, or a peer's that was taken back.
        """
        if self.version.epoch < fence and self.origin is None:  # a peer's weights were served: no zombie's
            raise FencedError(
                f"epoch {self.version.epoch} is fenced: epoch {fence} has taken over; stop this trainer"
            )
        if self.origin is not None and self.origin.taken_back < taken_back >= self.version:
            raise StaleVersionError(
                f"(epoch, version) {tuple(self.version)} was taken back here, which the peer has not heard "
                "of; roll it back too"
            )
        if self.version <= current.version and not self._corrects(current):
            raise StaleVersionError(
                f"(epoch, version) {tuple(self.version)} is not above {tuple(current.version)}, which "
                "serves; push a higher version"
            )

    def _corrects(self, current: Served) -> bool:
        """Returns whether a peer brings older weights because what serves here has been taken back."""
        if self.origin is None:
            return False
        return self.version < current.version <= self.origin.taken_back

    def check_parent(self, current: Served) -> None:
        """Makes sure that unchanged tensors are those that serve.

        Raises:
            ParentMismatchError: They refer to another version, or differ from it.
        """
        if not self.manifest.unchanged:
            return
        if self.parent != current.version:
            raise ParentMismatchError(
                f"unchanged tensors refer to (epoch, version) {tuple(self.parent)}, but "
                f"{tuple(current.version)} serves; push all tensors"
            )
        entries = [entry for entry in self.manifest.entries if entry.unchanged]
        differing = [entry.name for entry in entries if current.digests[entry.name] != entry.digest]
        if differing:
            raise ParentMismatchError(
                f"not unchanged since the parent version: {', '.join(differing[:10])}; push these tensors"
            )


class Progress(NamedTuple):
    """How far a push has come."""

    push_id: str
    next_offset: int
    total_bytes: int
    committed: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit."""

    version: Version
    digest: bytes
    probe_logprobs: Floats
    """Of tokens 1.. of every probe, ragged end to end."""
    swap_seconds: float


class Push:
    """An open push. Its work is done by the engine, between decode steps."""

    def __init__(self, push_id: str, offer: Offer, engine: PolicyEngine, current: Served, now: float) -> None:
        """Reserves memory for the new weights; what is unchanged comes from ``current``."""
        self.push_id = push_id
        self.offer = offer
        self.began = now
        self.touched = now
        """When it was last heard of."""
        self.commit: asyncio.Task[Committed] | None = None
        self.swapping = False
        """Too late to drop it."""
        self.answer: Committed | None = None
        self.ended: PilothouseError | None = None
        """Why it was dropped."""
        self._engine = engine
        self._staging = _staging(offer)
        self._backlog: deque[tuple[int, Future[None]]] = deque()
        self._build: WeightBuild | None = WeightBuild(current.weights, offer.manifest.unchanged)
        if offer.manifest.unchanged:
            self._backlog.append((0, engine.in_pieces(self._build.inherit())))

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        total = self.offer.manifest.total_bytes
        return Progress(self.push_id, self._staging.next_offset, total, self.answer is not None)

    @property
    def weights(self) -> DecoderWeights:
        """The new weights; whole once everything has arrived and ``verified`` has returned."""
        return self._open_build().weights

    def write(self, offset: int, data: bytes, crc32: int) -> None:
        """Takes one chunk; tensors that are now complete go to be verified.

        Raises:
            InvalidChunkError: It is out of order, empty, too large or past the end.
            CorruptChunkError: Its CRC does not match.
        """
        for piece in self._staging.write(offset, data, crc32):
            future = self._engine.in_pieces(self._open_build().store(piece))
            self._backlog.append((len(piece.data), future))

    async def verified(self, backlog_bytes: int = 0) -> None:
        """Waits until at most this much is left to verify.

        Raises:
            CorruptPushError: A tensor does not match its digest.
            NonFiniteWeightsError: A tensor holds NaN or infinity.
        """
        while self._backlog:
            future = self._backlog[0][1]
            left = sum(size for size, _ in self._backlog)
            if not future.done() and 0 < left <= backlog_bytes:
                return
            await asyncio.wait([heard(asyncio.wrap_future(future))])
            if self.ended is not None:
                raise self.ended
            future.result()
            if self._backlog and self._backlog[0][1] is future:
                self._backlog.popleft()

    async def prove(self, probes: Sequence[Tokens], batch_tokens: int) -> Floats:
        """Returns the verified weights' log-probs of tokens 1.. of every probe.

        Without probes a few tokens are tried.

        Raises:
            NonFiniteWeightsError: They are not finite.
        """
        weights = self.weights
        canary = np.arange(8, dtype=np.int32) % weights.spec.vocabulary_size
        rows = list(probes) or [canary]
        pieces = logprobs_in_pieces(
            weights, rows, [1] * len(rows), temperature=1.0, batch_tokens=batch_tokens
        )
        logprobs = await asyncio.wrap_future(self._engine.in_pieces(pieces))
        if not np.isfinite(logprobs).all():
            raise NonFiniteWeightsError(
                "the new weights give log-probabilities that are not finite; the training run has diverged"
            )
        return logprobs if probes else np.empty(0, dtype=np.float32)

    def outcome(self) -> Committed:
        """Returns what a commit that has ended answered, or raises what ended it."""
        assert self.commit is not None
        if self.ended is not None and self.commit.cancelled():
            raise self.ended
        return self.commit.result()

    def finish(self, answer: Committed) -> None:
        """Keeps the answer; the weights are the server's now."""
        self.answer = answer
        self.swapping = False
        self._build = None

    def drop(self, error: PilothouseError) -> None:
        """Ends the push and frees its memory."""
        self.ended = error
        for _, future in self._backlog:
            future.cancel()
        self._backlog.clear()
        self._build = None
        self._staging = _staging(self.offer)
        if self.commit is not None and self.commit is not asyncio.current_task():
            self.commit.cancel()

    def _open_build(self) -> WeightBuild:
        if self._build is None:
            raise self.ended or RuntimeError("the push has been committed")
        return self._build


def _staging(offer: Offer) -> Staging:
    return Staging(offer.manifest, max_chunk_bytes=MAX_CHUNK_BYTES, piece_bytes=PIECE_BYTES)


def heard(future: asyncio.Future[Waited]) -> asyncio.Future[Waited]:
    """Returns the future, whose exception asyncio does not report although its waiter may have left."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
