"""Frozen log-probs: arrays in, arrays out."""

import numpy as np
import pytest
import torch

from pilothouse.errors import InvalidRequestError, NonFiniteScoreError
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.tiny import tiny_model
from pilothouse.reference.engine import MAX_TEMPERATURE, MIN_TEMPERATURE, ReferenceEngine
from pilothouse.tensors import Tokens

LENGTHS = [9, 30, 4, 17, 17, 40]
PROMPTS = [3, 10, 4, 1, 16, 20]


@pytest.fixture
def weights() -> DecoderWeights:
    return DecoderWeights.from_model(tiny_model())


def sequences() -> list[Tokens]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, 500, length, dtype=np.int32) for length in LENGTHS]


def engine(weights: DecoderWeights, max_batch_tokens: int = 2048) -> ReferenceEngine:
    return ReferenceEngine(
        weights, max_sequence_tokens=64, max_batch_tokens=max_batch_tokens, max_request_tokens=200
    )


@pytest.mark.parametrize("max_batch_tokens", [1, 20, 40, 2048])
def test_small_batches_give_the_logprobs_of_one_large_batch(
    weights: DecoderWeights, max_batch_tokens: int
) -> None:
    with torch.no_grad():
        expected = response_logprobs(weights, sequences(), PROMPTS, temperature=0.7)
    logprobs = engine(weights, max_batch_tokens).logprobs(sequences(), PROMPTS, 0.7)
    np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_equal_requests_get_bit_equal_answers(weights: DecoderWeights) -> None:
    one, other = (engine(weights, 40).logprobs(sequences(), PROMPTS, 1.0) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("lengths", "prompts", "temperature", "words"),
    [
        ([], [], 1.0, "no sequences"),
        ([5], [1, 1], 1.0, "send one for each"),
        ([5], [0], 1.0, "at least 1"),
        ([5], [6], 1.0, "at most its sequence's length"),
        ([65], [1], 1.0, "shorten it to 64"),
        ([60, 60, 60, 60], [1, 1, 1, 1], 1.0, "split it"),
        ([5], [1], 0.0, "above 0"),
        ([5], [1], -1.0, "above 0"),
        ([5], [1], float("nan"), "above 0"),
        ([5], [1], float("inf"), "above 0"),
        ([5], [1], 1e-40, "from 0.001 to 100"),  # the scaled logits would overflow: NaN
        ([5], [1], 101.0, "from 0.001 to 100"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    weights: DecoderWeights, lengths: list[int], prompts: list[int], temperature: float, words: str
) -> None:
    rows = [np.full(length, 5, np.int32) for length in lengths]
    with pytest.raises(InvalidRequestError, match=words):
        engine(weights).check(rows, np.array(prompts, np.int32), temperature)


@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, MAX_TEMPERATURE])
def test_logprobs_are_finite_at_both_ends_of_the_temperatures(
    weights: DecoderWeights, temperature: float
) -> None:
    assert np.isfinite(engine(weights).logprobs(sequences(), PROMPTS, temperature)).all()


def test_logprobs_that_are_not_finite_are_an_error_and_no_answer(weights: DecoderWeights) -> None:
    with torch.no_grad():
        weights.embedding[7] = torch.nan
    row = np.array([3, 4, 5, 6], np.int32)
    with pytest.raises(NonFiniteScoreError, match="not finite"):
        engine(weights).logprobs([row, np.array([3, 7, 5, 6], np.int32)], [2, 2], 1.0)


def test_a_cancelled_request_computes_no_further_batch(weights: DecoderWeights) -> None:
    answers = iter([False, True])
    logprobs = engine(weights, 1).logprobs(sequences(), PROMPTS, 1.0, lambda: next(answers))
    assert len(logprobs) == LENGTHS[0] - PROMPTS[0]
