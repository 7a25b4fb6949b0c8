"""The engine's layout by name: where parameters lie, fresh memory, and rows stored one by one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pilothouse.models.layout import allocate, owned, places, shapes
from pilothouse.models.load import parameters_by_name
from pilothouse.models.panels import in_panels
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import ARCHITECTURES, small_model
from pilothouse.models.weights import DecoderWeights

Layout = Callable[[DecoderWeights], DecoderWeights]


def transposed(weights: DecoderWeights) -> DecoderWeights:
    return weights


layouts = pytest.mark.parametrize("layout", [transposed, in_panels])
architectures = pytest.mark.parametrize("architecture", ARCHITECTURES)


def state_and_weights(architecture: str, layout: Layout) -> tuple[dict[str, Tensor], DecoderWeights]:
    model = small_model(architecture, 3)
    state = {name: tensor.detach() for name, tensor in parameters_by_name(model).items()}
    return state, layout(DecoderWeights.from_state(decoder_spec(model.config), state))


@layouts
@architectures
def test_every_parameter_has_its_place(architecture: str, layout: Layout) -> None:
    state, weights = state_and_weights(architecture, layout)
    assert shapes(weights) == {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, place in places(weights).items():
        torch.testing.assert_close(place.read(), state[name])


@layouts
@architectures
def test_rows_stored_in_fresh_memory_make_the_same_weights(architecture: str, layout: Layout) -> None:
    state, weights = state_and_weights(architecture, layout)
    fresh = allocate(weights)
    known = places(weights)
    for name, place in places(fresh).items():
        assert not place.memory & known[name].memory
        for row in range(0, len(state[name]), 7):
            place.store(state[name][row : row + 7].reshape(-1), row)
    for name, place in places(fresh).items():
        for mine, theirs in zip(place.copies, known[name].copies, strict=True):
            assert torch.equal(mine.read(), theirs.read())


@layouts
def test_unchanged_memory_is_shared_where_nothing_else_lies_in_it(layout: Layout) -> None:
    _, weights = state_and_weights("llama-tied", layout)
    alone, joined = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
    fresh = places(allocate(weights, {alone, joined}))
    known = places(weights)
    assert fresh[alone].memory == known[alone].memory
    assert not fresh[joined].memory & known[joined].memory


@layouts
@architectures
def test_owned_weights_share_nothing_with_the_model(architecture: str, layout: Layout) -> None:
    state, weights = state_and_weights(architecture, layout)
    foreign = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    mine = owned(weights, state.values())
    for name, place in places(mine).items():
        assert not place.memory & foreign
        assert torch.equal(place.read(), places(weights)[name].read())
    if mine.spec.tied:
        assert mine.head is not None
        assert mine.head.weight.data_ptr() == mine.embedding.data_ptr()
