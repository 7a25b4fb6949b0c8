"""Manifests on the wire."""

from pilothouse import tensors
from pilothouse.errors import InvalidRequestError
from pilothouse.models.load import DTYPES
from pilothouse.policy.manifest import Entry, Manifest
from pilothouse.policy.push import Origin, Served
from pilothouse.policy.requests import Version
from pilothouse.v1 import tensor_pb2, weights_pb2

_WIRE_TYPES: dict[str, tensor_pb2.DataType] = {
    dtype.name: wire for wire, dtype in tensors.DTYPES.items() if dtype.name in DTYPES
}


def decode_manifest(manifest: weights_pb2.Manifest) -> Manifest:
    """Returns what is announced, unchecked but for the encodings.

    Raises:
        InvalidRequestError: This server does not know an encoding.
    """
    return Manifest(
        entries=tuple(_decode_entry(entry) for entry in manifest.entries),
        total_bytes=manifest.total_size_bytes,
        digest=manifest.digest,
    )


def encode_served(
    served: Served, manifest: Manifest, fence: int, taken_back: Version
) -> weights_pb2.ServedWeights:
    """Returns the head of a fetch."""
    return weights_pb2.ServedWeights(
        epoch=served.version.epoch,
        version=served.version.version,
        fence=fence,
        taken_back_epoch=taken_back.epoch,
        taken_back_version=taken_back.version,
        manifest=weights_pb2.Manifest(
            entries=[
                weights_pb2.WeightEntry(
                    name=entry.name,
                    dtype=_WIRE_TYPES[entry.dtype],
                    shape=entry.shape,
                    encoding=weights_pb2.WEIGHT_ENCODING_DENSE,
                    size_bytes=entry.size_bytes,
                    digest=entry.digest,
                )
                for entry in manifest.entries
            ],
            total_size_bytes=manifest.total_bytes,
            digest=manifest.digest,
        ),
        digest=served.digest,
        tensor_digests=[served.digests[entry.name] for entry in manifest.entries],
    )


def decode_origin(head: weights_pb2.ServedWeights) -> Origin:
    """Returns what the sender knows of the weights that it sends.

    Raises:
        InvalidRequestError: There is not one digest for each tensor.
    """
    names = [entry.name for entry in head.manifest.entries]
    if len(names) != len(head.tensor_digests):
        raise InvalidRequestError(
            f"the peer sends {len(names)} tensors with {len(head.tensor_digests)} digests; run one version "
            "of Pilothouse on all replicas"
        )
    return Origin(
        head.digest,
        dict(zip(names, head.tensor_digests, strict=True)),
        head.fence,
        Version(head.taken_back_epoch, head.taken_back_version),
    )


def _decode_entry(entry: weights_pb2.WeightEntry) -> Entry:
    if entry.encoding not in (weights_pb2.WEIGHT_ENCODING_DENSE, weights_pb2.WEIGHT_ENCODING_UNCHANGED):
        raise InvalidRequestError(
            f"{entry.name[:200]!r} has no encoding that this server knows; send it dense"
        )
    dtype = tensors.DTYPES.get(entry.dtype)
    known = dtype is not None and dtype.name in DTYPES
    return Entry(
        name=entry.name,
        dtype=dtype.name if dtype is not None else "none",
        item_bytes=dtype.itemsize if known and dtype is not None else 0,
        shape=tuple(entry.shape),
        unchanged=entry.encoding == weights_pb2.WEIGHT_ENCODING_UNCHANGED,
        size_bytes=entry.size_bytes,
        digest=entry.digest,
    )
