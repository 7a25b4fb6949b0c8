"""NumPy arrays to and from the ``Tensor`` message, with every check that hostile bytes need."""

from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pilothouse.errors import InvalidTensorError
from pilothouse.v1 import tensor_pb2

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]

DTYPES: dict[tensor_pb2.DataType, np.dtype[np.generic]] = {
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    tensor_pb2.DATA_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    tensor_pb2.DATA_TYPE_INT32: np.dtype("<i4"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
}
"""The element types of the wire. A type that is not here cannot be sent."""

_WIRE_TYPES = {dtype: wire for wire, dtype in DTYPES.items()}


def wire_type(dtype: npt.DTypeLike) -> tensor_pb2.DataType:
    """Returns the wire's name of a NumPy dtype.

    Raises:
        InvalidTensorError: The dtype cannot be sent.
    """
    try:
        return _WIRE_TYPES[np.dtype(dtype).newbyteorder("<")]
    except TypeError:
        raise InvalidTensorError(f"{dtype} is no dtype of NumPy's; convert to a NumPy array first") from None
    except KeyError:
        allowed = ", ".join(str(known) for known in _WIRE_TYPES)
        raise InvalidTensorError(f"dtype {dtype} cannot be sent; convert to one of: {allowed}") from None


def encode(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> tensor_pb2.Tensor:
    """Returns the array as a message, converted to ``dtype`` where one is given.

    Raises:
        InvalidTensorError: The dtype cannot be sent, or an integer type was asked for and the values are not
            integers in its range.
    """
    values = _as_array(array)
    target = np.dtype(values.dtype if dtype is None else dtype).newbyteorder("<")
    wire = wire_type(target)
    if target.kind == "i":
        _check_integers(values, target)
    data = values.astype(target, copy=False).tobytes()  # in C order, whatever the memory layout
    return tensor_pb2.Tensor(dtype=wire, shape=values.shape, data=data)


def decode(
    tensor: tensor_pb2.Tensor, *, name: str, dtype: npt.DTypeLike, ndim: int, finite: bool = True
) -> npt.NDArray[np.generic]:
    """Returns a read-only array over the message's bytes.

    Args:
        tensor: The message.
        name: What the caller calls it, for error messages.
        dtype: The only dtype accepted.
        ndim: The only number of axes accepted.
        finite: Refuse NaN and infinity.

    Raises:
        InvalidTensorError: Dtype, shape, byte length or values are wrong.
    """
    expected = np.dtype(dtype)
    actual = DTYPES.get(tensor.dtype)
    if actual != expected:
        raise InvalidTensorError(f"{name} must have dtype {expected}, got {actual or 'none'}")
    shape = tuple(tensor.shape)
    if len(shape) != ndim or any(axis < 0 for axis in shape):
        raise InvalidTensorError(f"{name} must have {ndim} axes of non-negative length, got shape {shape}")
    count = 1
    for axis in shape:  # Python integers: a product cannot overflow
        count *= axis
    if count * expected.itemsize != len(tensor.data):
        raise InvalidTensorError(
            f"{name} has {len(tensor.data)} bytes, but shape {shape} of {expected} takes "
            f"{count * expected.itemsize}"
        )
    try:
        array = np.frombuffer(tensor.data, dtype=expected).reshape(shape)
    except ValueError:  # an empty tensor may still name axes that no array can have
        raise InvalidTensorError(f"{name} has a shape that no array can have: {shape}") from None
    if finite and expected.kind not in "iu" and not np.isfinite(array).all():
        raise InvalidTensorError(f"{name} holds NaN or infinity; send finite values")
    return array


def encode_sequences(sequences: Sequence[npt.ArrayLike]) -> tensor_pb2.TokenSequences:
    """Returns ragged token sequences, each int of shape [length], as one message.

    Raises:
        InvalidTensorError: A sequence is not a row of integers that int32 can hold.
    """
    rows = [_as_array(row) for row in sequences]
    for row in rows:
        if row.ndim != 1:
            raise InvalidTensorError(f"a token sequence must have 1 axis, got shape {row.shape}")
        _check_integers(row, np.dtype(np.int32))
    joined = np.concatenate([row.astype(np.int32) for row in rows]) if rows else np.empty(0, dtype=np.int32)
    return tensor_pb2.TokenSequences(
        tokens=encode(joined, np.int32), lengths=encode([len(row) for row in rows], np.int32)
    )


def decode_sequences(
    message: tensor_pb2.TokenSequences, *, name: str, vocabulary_size: int, max_rows: int | None = None
) -> list[Tokens]:
    """Returns ragged token sequences, int32, each of shape [length >= 1], ids in [0, vocabulary_size).

    Args:
        message: The message.
        name: What the caller calls it, for error messages.
        vocabulary_size: One above the largest id accepted.
        max_rows: Most sequences accepted; None for no limit but the message's size.

    Raises:
        InvalidTensorError: There are too many sequences, the lengths do not add up, a sequence is empty, or
            an id is out of range.
    """
    tokens = cast(Tokens, decode(message.tokens, name=f"{name}.tokens", dtype=np.int32, ndim=1))
    lengths = cast(Tokens, decode(message.lengths, name=f"{name}.lengths", dtype=np.int32, ndim=1))
    # Everything is checked before the first row is cut: a message may claim millions of rows.
    if max_rows is not None and len(lengths) > max_rows:
        raise InvalidTensorError(f"{name} has {len(lengths)} sequences; send at most {max_rows} at a time")
    if (lengths == 0).any():
        raise InvalidTensorError(f"{name} has an empty sequence; every sequence needs at least one token")
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocabulary_size):
        raise InvalidTensorError(f"{name} has token ids outside [0, {vocabulary_size})")
    return cast(list[Tokens], split(tokens, lengths, name=name))


def split(values: Array, lengths: Array, *, name: str) -> list[Array]:
    """Cuts ``values``, shape [total], into rows of the given lengths, int32 of shape [batch].

    Raises:
        InvalidTensorError: A length is negative or they do not add up to ``total``.
    """
    counts = lengths.astype(np.int64)
    if (counts < 0).any() or counts.sum() != len(values):
        raise InvalidTensorError(
            f"{name}: lengths must be non-negative and add up to {len(values)}, got {counts.sum()}"
        )
    ends = np.cumsum(counts).tolist()
    return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _as_array(values: npt.ArrayLike) -> Array:
    try:
        return np.asarray(values)
    except ValueError:
        raise InvalidTensorError(
            "the values are not a rectangular array; pass ragged rows one by one"
        ) from None


def _check_integers(values: Array, target: np.dtype[Any]) -> None:
    """Refuses what NumPy would silently cut to size: fractions, and integers out of range."""
    if values.size == 0:
        return
    if values.dtype.kind not in "iu":
        raise InvalidTensorError(f"expected integers, got {values.dtype}; convert them first")
    limits = np.iinfo(target)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise InvalidTensorError(f"integers from {low} to {high} do not fit into {target}")
