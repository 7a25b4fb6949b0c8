"""Pushes as a trainer makes them."""

from collections.abc import AsyncIterator, Mapping
from zlib import crc32

import ml_dtypes
import numpy as np
import torch
from blake3 import blake3

from pilothouse.models.load import parameters_by_name
from pilothouse.models.tiny import small_model
from pilothouse.tensors import wire_type
from pilothouse.v1 import weights_pb2

Arrays = Mapping[str, np.ndarray]


def arrays_of(architecture: str, seed: int) -> dict[str, np.ndarray]:
    """Returns a small model's parameters."""
    model = small_model(architecture, seed)
    return {name: tensor.detach().numpy().copy() for name, tensor in parameters_by_name(model).items()}


def as_bfloat16(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}


def begin_request(
    arrays: Arrays,
    *,
    epoch: int = 1,
    version: int = 1,
    parent: tuple[int, int] = (0, 0),
    unchanged: tuple[str, ...] = (),
    run: str = "test",
) -> weights_pb2.BeginPushRequest:
    entries = [
        weights_pb2.WeightEntry(
            name=name,
            dtype=wire_type(array.dtype),
            shape=array.shape,
            encoding=weights_pb2.WEIGHT_ENCODING_UNCHANGED
            if name in unchanged
            else weights_pb2.WEIGHT_ENCODING_DENSE,
            size_bytes=0 if name in unchanged else array.nbytes,
            digest=blake3(array.tobytes()).digest(),
        )
        for name, array in sorted(arrays.items())
    ]
    request = weights_pb2.BeginPushRequest(
        run=run, epoch=epoch, version=version, parent_epoch=parent[0], parent_version=parent[1]
    )
    request.manifest.entries.extend(entries)
    sign(request.manifest)
    return request


def sign(manifest: weights_pb2.Manifest) -> None:
    """Makes the totals fit the entries."""
    manifest.total_size_bytes = sum(entry.size_bytes for entry in manifest.entries)
    manifest.digest = blake3(b"".join(entry.digest for entry in manifest.entries)).digest()


def payload(arrays: Arrays, unchanged: tuple[str, ...] = ()) -> bytes:
    return b"".join(array.tobytes() for name, array in sorted(arrays.items()) if name not in unchanged)


def chunks(
    push_id: str, data: bytes, *, start: int = 0, size: int = 50_000
) -> list[weights_pb2.UploadPushRequest]:
    return [
        weights_pb2.UploadPushRequest(
            push_id=push_id if at == start else "",
            offset=at,
            data=data[at : at + size],
            crc32=crc32(data[at : at + size]),
        )
        for at in range(start, len(data), size)
    ]


async def stream(
    requests: list[weights_pb2.UploadPushRequest],
) -> AsyncIterator[weights_pb2.UploadPushRequest]:
    for request in requests:
        yield request


def state_of(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(array, dtype=np.float32)) for name, array in arrays.items()}
