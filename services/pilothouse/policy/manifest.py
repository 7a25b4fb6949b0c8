"""What a weight push announces, and the bytes that arrive for it; neither models nor messages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from zlib import crc32

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from pilothouse.errors import CorruptChunkError, InvalidChunkError, ManifestMismatchError

DIGEST_BYTES = 32
PROBLEMS_SHOWN = 10

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a push."""

    name: str
    dtype: str
    """``float32``, ``bfloat16`` or ``float16``; any other is refused by ``check``."""
    item_bytes: int
    shape: tuple[int, ...]
    unchanged: bool
    """Taken from the parent version; no bytes are sent."""
    size_bytes: int
    digest: bytes
    """BLAKE3 of the dense bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that will be uploaded, in order."""

    entries: tuple[Entry, ...]
    total_bytes: int
    digest: bytes
    """BLAKE3 of all entries' digests, joined."""

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of tensors that the parent version provides."""
        return frozenset(entry.name for entry in self.entries if entry.unchanged)

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes sure that it is a whole model of the right shapes and adds up.

        Args:
            shapes: Of every parameter of the served model, by name.

        Raises:
            ManifestMismatchError: It does not; the message names up to ten tensors.
        """
        if len(self.entries) > 2 * len(shapes):  # before any work per entry
            raise ManifestMismatchError(
                f"the manifest has {len(self.entries)} tensors, the model {len(shapes)}; send every one once"
            )
        problems = self._name_problems(shapes)
        problems += [problem for entry in self.entries if (problem := _entry_problem(entry, shapes))]
        total = sum(entry.size_bytes for entry in self.entries)
        if not problems and total != self.total_bytes:
            problems.append(f"total_size_bytes is {self.total_bytes}, but the tensors add up to {total}")
        if not problems and blake3(b"".join(entry.digest for entry in self.entries)).digest() != self.digest:
            problems.append("its digest is not that of the entries' digests joined in order")
        if problems:
            more = f"; and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
            raise ManifestMismatchError(
                f"the manifest does not fit the served model: {'; '.join(problems[:PROBLEMS_SHOWN])}{more}"
            )

    def _name_problems(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        names = [entry.name for entry in self.entries]
        known = set(names)
        twice = sorted({name for name in known if names.count(name) > 1}) if len(known) < len(names) else []
        return [
            *(f"{name[:200]!r} is missing" for name in shapes if name not in known),
            *(f"{name[:200]!r} is not a parameter of it" for name in sorted(known - shapes.keys())),
            *(f"{name[:200]!r} comes twice" for name in twice),
        ]


def _entry_problem(entry: Entry, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if entry.name not in shapes:
        return None  # told already
    if entry.shape != shapes[entry.name]:
        return f"{entry.name} has shape {list(entry.shape)[:8]}, not {list(shapes[entry.name])}"
    if not entry.item_bytes:
        return f"{entry.name} has dtype {entry.dtype}; send float32, bfloat16 or float16"
    expected = 0 if entry.unchanged else prod(entry.shape) * entry.item_bytes
    if entry.size_bytes != expected:
        return f"{entry.name} announces {entry.size_bytes} bytes, but takes {expected}"
    if len(entry.digest) != DIGEST_BYTES:
        return f"{entry.name} has a digest of {len(entry.digest)} bytes, not {DIGEST_BYTES}"
    return None


@dataclass(frozen=True, slots=True)
class Piece:
    """Some whole rows of a tensor (of its first axis), as they arrived."""

    entry: Entry
    first_row: int
    data: Bytes
    last: bool
    """The tensor is complete with it."""


class Staging:
    """Cuts an upload, chunk by chunk, into pieces of tensors; holds no more than one piece."""

    def __init__(self, manifest: Manifest, *, max_chunk_bytes: int, piece_bytes: int) -> None:
        """Starts at the upload's first byte.

        Args:
            manifest: What will come; checked.
            max_chunk_bytes: Largest chunk.
            piece_bytes: About the size of a piece; a row that is longer makes a piece of its own.
        """
        self.manifest = manifest
        self.next_offset = 0
        """First byte of the upload that has not arrived."""
        self._max_chunk_bytes = max_chunk_bytes
        self._pieces = _cut(manifest, piece_bytes)
        self._piece = next(self._pieces, None)
        self._filled = 0

    def write(self, offset: int, data: bytes, crc: int) -> list[Piece]:
        """Takes the next chunk.

        Args:
            offset: Of its first byte within the upload.
            data: The chunk.
            crc: CRC-32 of ``data``.

        Returns:
            The pieces that are now complete.

        Raises:
            InvalidChunkError: It is out of order, empty, too large or goes past the end.
            CorruptChunkError: Its CRC does not match. Nothing of it was kept.
        """
        self._check(offset, data, crc)
        complete: list[Piece] = []
        view = np.frombuffer(data, dtype=np.uint8)
        while len(view) and self._piece is not None:
            room = self._piece.data[self._filled :]
            taken = min(len(view), len(room))
            room[:taken] = view[:taken]
            view = view[taken:]
            self._filled += taken
            if taken == len(room):
                complete.append(self._piece)
                self._piece, self._filled = next(self._pieces, None), 0
        self.next_offset += len(data)
        return complete

    def _check(self, offset: int, data: bytes, crc: int) -> None:
        where = f"chunk at offset {offset}{self._tensor_at(offset)}"
        if not 0 < len(data) <= self._max_chunk_bytes:
            raise InvalidChunkError(
                f"{where} has {len(data)} bytes; send 1 to {self._max_chunk_bytes} bytes at a time"
            )
        if offset != self.next_offset:
            raise InvalidChunkError(f"{where} is out of order; go on from offset {self.next_offset}")
        if offset + len(data) > self.manifest.total_bytes:
            raise InvalidChunkError(
                f"{where} ends at {offset + len(data)}, past the {self.manifest.total_bytes} bytes announced"
            )
        if crc32(data) != crc:
            raise CorruptChunkError(f"{where} does not match its CRC-32; send it again")

    def _tensor_at(self, offset: int) -> str:
        start = 0
        for entry in self.manifest.entries:
            if start <= offset < start + entry.size_bytes:
                return f" (in {entry.name})"
            start += entry.size_bytes
        return ""


def _cut(manifest: Manifest, piece_bytes: int) -> Iterator[Piece]:
    """Yields empty pieces, each made when the one before is full."""
    for entry in manifest.entries:
        if entry.unchanged:
            continue
        rows = entry.shape[0] if entry.shape else 1
        row_bytes = entry.size_bytes // rows
        step = max(1, piece_bytes // row_bytes)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            yield Piece(entry, first, np.empty(count * row_bytes, dtype=np.uint8), first + count == rows)
