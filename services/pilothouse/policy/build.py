"""Builds the next weights beside those that serve, in pieces that fit between two decode steps."""

from collections.abc import Generator, Set

import torch
from blake3 import blake3

from pilothouse.errors import CorruptPushError, NonFiniteWeightsError
from pilothouse.models.layout import allocate, inherit, places
from pilothouse.models.load import DTYPES
from pilothouse.models.threads import one_thread
from pilothouse.models.weights import DecoderWeights
from pilothouse.policy.manifest import Piece

PIECE_BYTES = 2 * 2**20
"""Hashed, checked and copied at a time: a few milliseconds on one core."""


class WeightBuild:
    """One set of weights in the making."""

    def __init__(self, current: DecoderWeights, unchanged: Set[str] = frozenset()) -> None:
        """Reserves memory, which the system hands out as it is written.

        Args:
            current: The weights now serving: the pattern, and the source of what is unchanged.
            unchanged: Names of parameters taken from ``current``.
        """
        self.weights = allocate(current, unchanged)
        self._dtype = current.embedding.dtype  # in which a finite number may become infinite
        self._current = places(current)
        self._places = places(self.weights)
        self._unchanged = unchanged
        self._hasher = blake3()  # of the tensor that is arriving
        self._finite = True

    def inherit(self) -> Generator[None, None, None]:
        """Copies unchanged parameters whose memory holds changed ones too; the others are shared already."""
        for name in sorted(self._unchanged):
            if inherit(self._current[name], self._places[name]):
                yield

    def store(self, piece: Piece) -> Generator[None, None, None]:
        """Hashes, checks and places one piece; pieces come in order.

        Raises:
            CorruptPushError: The tensor that ends with this piece does not match its digest.
            NonFiniteWeightsError: It holds NaN or infinity.
        """
        entry = piece.entry
        self._hasher.update(piece.data.data)
        with one_thread():
            values = torch.from_numpy(piece.data).view(DTYPES[entry.dtype]).to(self._dtype)
            self._finite = self._finite and _all_finite(values)
            self._places[entry.name].store(values, piece.first_row)
        if piece.last:
            digest, finite = self._hasher.digest(), self._finite
            self._hasher, self._finite = blake3(), True
            if digest != entry.digest:
                raise CorruptPushError(f"{entry.name} does not match its BLAKE3 digest; push again")
            if not finite:
                raise NonFiniteWeightsError(
                    f"{entry.name} holds NaN or infinity; the training run has diverged"
                )
        yield


def _all_finite(values: torch.Tensor) -> bool:
    """Returns whether no value is NaN or infinite: both show in the extremes, in one pass over the values."""
    return bool(torch.isfinite(torch.stack(torch.aminmax(values))).all()) if len(values) else True
