"""Builds the next weights beside those that serve, in pieces that fit between two decode steps."""

from collections.abc import Generator, Iterator, Set

import torch
from blake3 import blake3

from pilothouse.errors import CorruptPushError, NonFiniteWeightsError
from pilothouse.models.layout import Place, allocate, copy_in_pieces, places
from pilothouse.models.weights import DecoderWeights
from pilothouse.policy.manifest import Bytes, Entry

PIECE_BYTES = 2 * 2**20
"""Hashed, checked or copied at a time: a millisecond or two on one core."""
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""What a pushed tensor may hold; it is converted to the engine's dtype."""


class WeightBuild:
    """One set of weights in the making."""

    def __init__(self, current: DecoderWeights, unchanged: Set[str] = frozenset()) -> None:
        """Reserves memory, which the system hands out as it is written.

        Args:
            current: The weights now serving: the pattern, and the source of what is unchanged.
            unchanged: Names of parameters taken from ``current``.
        """
        self.weights = allocate(current, unchanged)
        self._current = places(current)
        self._places = places(self.weights)
        self._unchanged = unchanged

    def inherit(self) -> Generator[None, None, None]:
        """Copies unchanged parameters that share their memory with changed ones; the others are shared already."""
        for name in sorted(self._unchanged):
            source, target = self._current[name].view, self._places[name].view
            if source.data_ptr() != target.data_ptr():
                yield from copy_in_pieces(source, Place(target, 0.0), PIECE_BYTES)

    def store(self, entry: Entry, data: Bytes) -> Generator[None, None, None]:
        """Verifies one tensor and puts it in place.

        Raises:
            CorruptPushError: Its digest is not the manifest's.
            NonFiniteWeightsError: It holds NaN or infinity.
        """
        hasher = blake3()
        for start in range(0, len(data), PIECE_BYTES):
            hasher.update(data[start : start + PIECE_BYTES].data)
            yield
        if hasher.digest() != entry.digest:
            raise CorruptPushError(f"{entry.name} does not match its BLAKE3 digest; push again")
        source = torch.from_numpy(data).view(TORCH_DTYPES[entry.dtype])
        yield from _check_finite(entry.name, source)
        yield from copy_in_pieces(source.view(entry.shape), self._places[entry.name], PIECE_BYTES)


def _check_finite(name: str, values: torch.Tensor) -> Iterator[None]:
    for start in range(0, len(values), PIECE_BYTES // 4):
        if not torch.isfinite(values[start : start + PIECE_BYTES // 4]).all():
            raise NonFiniteWeightsError(f"{name} holds NaN or infinity; the training run has diverged")
        yield
