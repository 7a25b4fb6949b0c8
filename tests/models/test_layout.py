"""The engine's layout by name: where parameters lie, fresh memory, and rows stored one by one."""

import pytest
import torch

from pilothouse.models.layout import allocate, owned, places, shapes, store_rows
from pilothouse.models.load import parameters_by_name
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import ARCHITECTURES, small_model
from pilothouse.models.weights import DecoderWeights


def state_and_weights(architecture: str) -> tuple[dict[str, torch.Tensor], DecoderWeights]:
    model = small_model(architecture, 3)
    state = {name: tensor.detach() for name, tensor in parameters_by_name(model).items()}
    return state, DecoderWeights.from_state(decoder_spec(model.config), state)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_has_its_place(architecture: str) -> None:
    state, weights = state_and_weights(architecture)
    assert shapes(weights) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, place in places(weights).items():
        torch.testing.assert_close(place.view - place.offset, state[name])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_stored_in_fresh_memory_make_the_same_weights(architecture: str) -> None:
    state, weights = state_and_weights(architecture)
    fresh = allocate(weights)
    for name, place in places(fresh).items():
        assert place.view.data_ptr() != places(weights)[name].view.data_ptr()
        for row in range(0, len(state[name]), 7):
            store_rows(state[name][row : row + 7].reshape(-1), place, row)
    for name, place in places(fresh).items():
        assert torch.equal(place.view, places(weights)[name].view)
        assert place.view.stride() == places(weights)[name].view.stride()


def test_unchanged_memory_is_shared_where_nothing_else_lies_in_it() -> None:
    _, weights = state_and_weights("llama-tied")
    alone, joined = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
    fresh = places(allocate(weights, {alone, joined}))
    known = places(weights)
    assert fresh[alone].view.data_ptr() == known[alone].view.data_ptr()
    assert fresh[joined].view.data_ptr() != known[joined].view.data_ptr()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_owned_weights_share_nothing_with_the_model(architecture: str) -> None:
    state, weights = state_and_weights(architecture)
    foreign = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    mine = owned(weights, state.values())
    for name, place in places(mine).items():
        assert place.view.untyped_storage().data_ptr() not in foreign
        assert torch.equal(place.view, places(weights)[name].view)
    if mine.spec.tied:
        assert mine.head is not None
        assert mine.head.weight.data_ptr() == mine.embedding.data_ptr()
