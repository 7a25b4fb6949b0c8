"""Looks into an ONNX file for what reaches out of it, before any runtime opens it.

A graph may keep tensors in other files (``external_data``) or hand a vendor's compiled engine to a provider
(``EPContext``). Both name paths, and several advisories are about paths that leave the model's folder. This
reads protobuf's wire format for just the fields that can hold such names, so that serving does not need the
``onnx`` package. Field numbers are those of ``onnx.proto``.
"""

from collections.abc import Iterator
from pathlib import Path

from pilothouse.errors import CorruptDataError, UnsafeModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_DEPTH = 64

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
"""For every message, the fields that can lead to a path, and the messages that they hold."""

_OP_TYPE, _KEY, _VALUE = 4, 1, 2


def external_files(model: Path) -> set[str]:
    """Returns the names of the files in which the graph keeps tensors.

    Raises:
        UnsafeModelError: A node loads a compiled engine from a path.
        CorruptDataError: The file is not an ONNX model.
    """
    with model.open("rb") as file:
        found = set(_walk(memoryview(file.read()), "model", 0))
    return found


def _walk(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Yields the external locations inside one message."""
    if depth > _MAX_DEPTH:
        raise CorruptDataError("the ONNX file nests deeper than any real model; export it anew")
    texts: dict[int, bytes] = {}
    for number, value in _fields(message):
        child = _CHILDREN[kind].get(number)
        if child is not None:
            yield from _walk(value, child, depth + 1)
        elif kind == "external" or (kind == "node" and number == _OP_TYPE):
            texts[number] = bytes(value)
    if kind == "external" and texts.get(_KEY) == b"location":
        yield texts.get(_VALUE, b"").decode("utf-8", "replace")
    if kind == "node" and texts.get(_OP_TYPE) == b"EPContext":
        raise UnsafeModelError("the ONNX file loads a compiled engine (EPContext); export the plain graph")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields (number, content) of the length-delimited fields of a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, at = _varint(message, at)
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in _FIXED_BYTES:
            size = _FIXED_BYTES[wire]
        else:
            raise CorruptDataError("the file is not an ONNX model; export it anew")
        if size > len(message) - at:
            raise CorruptDataError("the ONNX file is cut off; copy it anew")
        if wire == _BYTES:
            yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise CorruptDataError("the ONNX file is cut off; copy it anew")
