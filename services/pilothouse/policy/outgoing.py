"""The weights that serve here, for a replica that joins late: tensor by tensor, as they lie in memory."""

from collections.abc import Iterator

from blake3 import blake3
from torch import Tensor

from pilothouse.models.layout import Place, places
from pilothouse.models.load import DTYPES, tensor_bytes
from pilothouse.policy.manifest import Entry, Manifest
from pilothouse.policy.push import Served

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def manifest_of(served: Served) -> Manifest:
    """Returns what ``bytes_of`` yields; reads and hashes every tensor once.

    They are those of the served element type: a push in another one had other bytes and digests.
    """
    entries = tuple(_entry(name, place.read()) for name, place in _by_name(served))
    return Manifest(
        entries=entries,
        total_bytes=sum(entry.size_bytes for entry in entries),
        digest=blake3(b"".join(entry.digest for entry in entries)).digest(),
    )


def bytes_of(served: Served, chunk_bytes: int) -> Iterator[bytes]:
    """Yields all tensors' little-endian bytes, in the manifest's order, at most ``chunk_bytes`` at a time.

    Holds a copy of one tensor at most. Weights that serve are never changed, only replaced.
    """
    for _, place in _by_name(served):
        data = tensor_bytes(place.read())
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes].tobytes()


def _by_name(served: Served) -> list[tuple[str, Place]]:
    return sorted(places(served.weights).items(), key=lambda item: item[0])


def _entry(name: str, tensor: Tensor) -> Entry:
    data = tensor_bytes(tensor)
    return Entry(
        name=name,
        dtype=_DTYPE_NAMES[tensor.dtype],
        item_bytes=tensor.element_size(),
        shape=tuple(tensor.shape),
        unchanged=False,
        size_bytes=len(data),
        digest=blake3(data.data).digest(),
    )
