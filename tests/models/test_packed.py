"""Ragged sequences in one batch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from pilothouse.models.decoder import DecoderWeights, hidden_states
from pilothouse.models.packed import pack, packed_attention
from pilothouse.models.tiny import small_model
from pilothouse.tensors import Tokens

Draw = Callable[..., list[Tokens]]


def states(weights: DecoderWeights, sequences: list[Tokens]) -> tuple[torch.Tensor, ...]:
    batch = pack(sequences)
    with torch.no_grad():
        packed = hidden_states(weights, batch.tokens, batch.positions, packed_attention(weights.spec, batch))
    return torch.split(packed, list(batch.lengths))


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_positions_and_offsets_follow_from_the_lengths(lengths: list[int]) -> None:
    batch = pack([np.full(length, index, np.int32) for index, length in enumerate(lengths)])
    assert batch.lengths == tuple(lengths)
    assert batch.offsets.tolist() == np.cumsum([0, *lengths]).tolist()
    for index, length in enumerate(lengths):
        own = slice(batch.offsets[index], batch.offsets[index + 1])
        assert batch.tokens[own].tolist() == [index] * length
        assert batch.positions[own].tolist() == list(range(length))


@pytest.mark.parametrize("lengths", [[], [3, 0]])
def test_nothing_to_pack_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pack([np.zeros(length, np.int32) for length in lengths])


def test_checklist_01_a_batch_of_mixed_lengths_gives_the_same_states_as_one_by_one(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    weights = DecoderWeights.from_model(model)
    for together, sequence in zip(states(weights, sequences), sequences, strict=True):
        torch.testing.assert_close(together, states(weights, [sequence])[0], rtol=0, atol=1e-4)


def test_checklist_02_left_pads_before_a_sequence_change_nothing(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    """The same tokens in transformers behind k pads, positions counted from the first real one."""
    weights = DecoderWeights.from_model(model)
    sequence, pads = torch.from_numpy(sequences[4]).long(), 7
    padded = torch.cat([torch.zeros(pads, dtype=torch.int64), sequence])[None]
    mask = (torch.arange(padded.shape[1]) >= pads).long()[None]
    with torch.no_grad():
        theirs = model.base_model(
            input_ids=padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)
        ).last_hidden_state[0, pads:]
    torch.testing.assert_close(states(weights, [sequences[4]])[0], theirs, rtol=0, atol=1e-4)


def test_neighbours_of_the_same_shape_change_not_a_bit(draw: Draw) -> None:
    weights = DecoderWeights.from_model(small_model("gemma3"))
    row = draw([20])[0]
    first = states(weights, [row, *draw([20, 20], seed=1)])[0]
    second = states(weights, [row, *draw([20, 20], seed=2)])[0]
    assert torch.equal(first, second)


def test_a_sliding_window_hides_what_lies_before_it(draw: Draw) -> None:
    """With only the sliding layers, a token beyond all windows has no influence."""
    weights = DecoderWeights.from_model(small_model("gemma3"))
    window = weights.spec.layers[0].window
    assert window is not None
    row = draw([window + 1])[0]
    other = row.copy()
    other[0] += 1

    def last(sequence: Tokens) -> torch.Tensor:
        batch = pack([sequence])
        attend = packed_attention(weights.spec, batch)
        return hidden_states(weights, batch.tokens, batch.positions, attend, last_layer=1)

    with torch.no_grad():
        before, after = last(row), last(other)
    assert torch.equal(before[-1], after[-1])
    assert not torch.allclose(before[-2], after[-2])
