import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pilothouse import tensors
from pilothouse.errors import InvalidTensorError
from pilothouse.v1 import tensor_pb2

SENDABLE = [np.float32, np.float16, np.float64, np.int32, np.int64]

ARRAYS = st.sampled_from(SENDABLE).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=5))
)
ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), max_size=6)


@given(ARRAYS)
def test_every_array_comes_back_bit_for_bit(array: np.ndarray) -> None:
    back = tensors.decode(tensors.encode(array), name="x", dtype=array.dtype, ndim=array.ndim, finite=False)
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(npst.arrays(np.float32, (2, 3)))
def test_memory_layout_and_byte_order_do_not_matter(array: np.ndarray) -> None:
    plain = tensors.encode(array)
    assert tensors.encode(np.asfortranarray(array)) == plain
    assert tensors.encode(array.astype(">f4")) == plain
    assert tensors.encode(np.repeat(array, 2, axis=1)[:, ::2]) == plain


def test_bfloat16_comes_back() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).astype(ml_dtypes.bfloat16)
    back = tensors.decode(tensors.encode(array), name="x", dtype=ml_dtypes.bfloat16, ndim=2)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.astype(np.float32), array.astype(np.float32))


@given(
    st.integers(0, 8),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.binary(max_size=64),
    st.integers(0, 3),
)
def test_hostile_tensors_are_refused_or_are_what_they_say(
    dtype: int, shape: list[int], data: bytes, ndim: int
) -> None:
    message = tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        array = tensors.decode(message, name="x", dtype=np.float32, ndim=ndim)
    except InvalidTensorError:
        return
    assert array.shape == tuple(shape)
    assert array.nbytes == len(data)
    assert np.isfinite(array).all()


@pytest.mark.parametrize("shape", [[0, 2**62], [2**40, 0, 2**40], [0, 2**63 - 1]])
def test_an_empty_tensor_with_impossible_axes_is_refused(shape: list[int]) -> None:
    message = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape)
    with pytest.raises(InvalidTensorError, match="no array can have"):
        tensors.decode(message, name="x", dtype=np.float32, ndim=len(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
def test_values_that_are_not_finite_are_refused_by_name(bad: float, dtype: type) -> None:
    message = tensors.encode(np.array([1.0, bad]).astype(dtype))
    with pytest.raises(InvalidTensorError, match="behaviour holds NaN or infinity"):
        tensors.decode(message, name="behaviour", dtype=dtype, ndim=1)


def test_a_wrong_dtype_is_told_with_both_names() -> None:
    with pytest.raises(InvalidTensorError, match="tokens must have dtype int32, got int64"):
        tensors.decode(tensors.encode([1, 2], np.int64), name="tokens", dtype=np.int32, ndim=1)


def test_an_unset_tensor_is_refused() -> None:
    with pytest.raises(InvalidTensorError, match="got none"):
        tensors.decode(tensor_pb2.Tensor(), name="tokens", dtype=np.int32, ndim=1)


@pytest.mark.parametrize("dtype", [bool, complex, np.uint8, "S3", object])
def test_a_dtype_that_the_wire_lacks_is_refused(dtype: object) -> None:
    with pytest.raises(InvalidTensorError, match="cannot be sent"):
        tensors.encode(np.zeros(2, dtype=dtype))  # type: ignore[call-overload]


@pytest.mark.parametrize("values", [[1.5], [2**31], [-(2**31) - 1], [2**70], ["a"]])
def test_what_is_no_int32_is_not_cut_to_size(values: list[object]) -> None:
    with pytest.raises(InvalidTensorError):
        tensors.encode(values, np.int32)  # type: ignore[arg-type]


def test_a_dtype_of_another_library_is_told_how_to_convert() -> None:
    with pytest.raises(InvalidTensorError, match="convert to a NumPy array first"):
        tensors.wire_type(object())  # type: ignore[arg-type]


def test_ragged_rows_are_no_array() -> None:
    with pytest.raises(InvalidTensorError, match="rectangular"):
        tensors.encode([[1, 2], [3]])


def test_an_empty_list_becomes_an_empty_tensor() -> None:
    assert list(tensors.encode([], np.int32).shape) == [0]


@given(ROWS)
def test_ragged_sequences_come_back(rows: list[list[int]]) -> None:
    message = tensors.encode_sequences(rows)
    back = tensors.decode_sequences(message, name="prompts", vocabulary_size=100)
    assert [row.tolist() for row in back] == rows


@given(st.lists(st.integers(-3, 5), max_size=5), st.lists(st.integers(-2, 4), max_size=8))
def test_hostile_sequences_are_refused_or_add_up(lengths: list[int], tokens: list[int]) -> None:
    message = tensor_pb2.TokenSequences(
        tokens=tensors.encode(tokens, np.int32), lengths=tensors.encode(lengths, np.int32)
    )
    try:
        rows = tensors.decode_sequences(message, name="prompts", vocabulary_size=4)
    except InvalidTensorError:
        assert sum(lengths) != len(tokens) or min(lengths, default=1) < 1 or set(tokens) - {0, 1, 2, 3}
    else:
        assert [len(row) for row in rows] == lengths
        assert [token for row in rows for token in row.tolist()] == tokens


@pytest.mark.parametrize(("lengths", "words"), [([0] * 8, "empty sequence"), ([1] * 9, "send at most 8")])
def test_rows_are_refused_before_the_first_one_is_cut(
    lengths: list[int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = tensor_pb2.TokenSequences(
        tokens=tensors.encode([1] * sum(lengths), np.int32), lengths=tensors.encode(lengths, np.int32)
    )
    monkeypatch.delattr(tensors, "split")  # a small message may claim millions of rows
    with pytest.raises(InvalidTensorError, match=words):
        tensors.decode_sequences(message, name="prompts", vocabulary_size=4, max_rows=8)


@pytest.mark.parametrize("row", [[0.5], [[1, 2]], [2**40], 7])
def test_a_token_sequence_is_a_row_of_integers(row: object) -> None:
    with pytest.raises(InvalidTensorError):
        tensors.encode_sequences([row])  # type: ignore[list-item]


def test_no_length_can_overflow_the_sum() -> None:
    lengths = np.array([2**31 - 1, 2**31 - 1, 2], dtype=np.int32)
    with pytest.raises(InvalidTensorError, match="add up to 0"):
        tensors.split(np.empty(0, np.int32), lengths, name="prompts")
