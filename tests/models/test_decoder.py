"""Our forward against transformers' own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from pilothouse.models.decoder import Attend, DecoderWeights, hidden_states, logits
from pilothouse.models.load import parameters_by_name
from pilothouse.models.packed import pack, packed_attention
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import small_model
from pilothouse.tensors import Tokens


def forward(weights: DecoderWeights, sequences: list[Tokens]) -> Tensor:
    batch = pack(sequences)
    return hidden_states(weights, batch.tokens, batch.positions, packed_attention(weights.spec, batch))


def plain_logits(model: PreTrainedModel, sequences: list[Tokens]) -> Tensor:
    rows = [model(input_ids=torch.from_numpy(row).long()[None]).logits[0] for row in sequences]
    return torch.cat(rows)


@pytest.mark.parametrize("layout", ["live", "fused", "separate"])
def test_logits_equal_those_of_transformers(
    model: PreTrainedModel, sequences: list[Tokens], layout: str
) -> None:
    weights = DecoderWeights.from_model(model)
    if layout != "live":
        state = parameters_by_name(model)
        weights = DecoderWeights.from_state(weights.spec, state, fused=layout == "fused")
    with torch.no_grad():
        ours = logits(weights, forward(weights, sequences))
        torch.testing.assert_close(ours, plain_logits(model, sequences), rtol=0, atol=1e-4)


def test_gradients_equal_those_of_transformers(model: PreTrainedModel, sequences: list[Tokens]) -> None:
    weights = DecoderWeights.from_model(model)
    slope = torch.randn(sum(map(len, sequences)), weights.spec.vocabulary_size)
    (logits(weights, forward(weights, sequences)) * slope).sum().backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    (plain_logits(model, sequences) * slope).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        scale = parameter.grad.abs().max().item()
        torch.testing.assert_close(ours[name], parameter.grad, rtol=0, atol=1e-5 * max(scale, 1.0), msg=name)


def test_a_run_can_stop_at_a_layer_and_go_on_from_there(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    weights = DecoderWeights.from_model(model)
    batch = pack(sequences)
    attend = packed_attention(weights.spec, batch)
    trunk = hidden_states(weights, batch.tokens, batch.positions, attend, last_layer=1)
    rest = hidden_states(weights, batch.tokens, batch.positions, attend, first_layer=1, hidden=trunk)
    assert torch.equal(rest, forward(weights, sequences))


def test_frozen_parameters_get_no_gradient(sequences: list[Tokens]) -> None:
    model = small_model("gpt2")
    weights = DecoderWeights.from_model(model)
    frozen = model.get_parameter("transformer.h.0.attn.c_attn.weight").requires_grad_(False)
    forward(weights, sequences).sum().backward()
    assert frozen.grad is None
    assert model.get_parameter("transformer.h.1.attn.c_attn.weight").grad is not None


def test_a_step_of_the_optimiser_shows_in_the_next_forward(sequences: list[Tokens]) -> None:
    model = small_model("llama-tied")
    weights = DecoderWeights.from_model(model)
    before = forward(weights, sequences)
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.down_proj.weight").add_(0.1)
    assert not torch.equal(before, forward(weights, sequences))


class CachedAttend:
    """Attends from one new token to all earlier ones of one sequence, as a decoding engine does."""

    def __init__(self, weights: DecoderWeights) -> None:
        self._spec = weights.spec
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if layer in self._cache:
            key = torch.cat([self._cache[layer][0], key])
            value = torch.cat([self._cache[layer][1], value])
        self._cache[layer] = key, value
        window = self._spec.layers[layer].window or len(key)
        heads = [states[-window:].transpose(0, 1) for states in (key, value)]
        output = F.scaled_dot_product_attention(
            query.transpose(0, 1), *heads, scale=self._spec.attention_scale, enable_gqa=True
        )
        return output.transpose(0, 1).flatten(1)


def test_cached_decoding_computes_the_same_states(model: PreTrainedModel, sequences: list[Tokens]) -> None:
    weights = DecoderWeights.from_model(model)
    attend: Attend = CachedAttend(weights)
    with torch.no_grad():
        whole = forward(weights, [sequences[4]])
        steps = [
            hidden_states(weights, torch.tensor([int(token)]), torch.tensor([position]), attend)
            for position, token in enumerate(sequences[4])
        ]
    torch.testing.assert_close(torch.cat(steps), whole, rtol=0, atol=1e-4)


def test_a_model_without_an_lm_head_says_so() -> None:
    weights = DecoderWeights.from_model(small_model("llama-tied"))
    weights.head = None
    with pytest.raises(ValueError, match="no LM head"):
        logits(weights, torch.zeros(1, weights.spec.width))


def test_a_tied_head_shares_the_memory_of_the_embedding() -> None:
    model = small_model("llama-tied")
    weights = DecoderWeights.from_state(decoder_spec(model.config), parameters_by_name(model))
    assert weights.head is not None
    assert weights.head.weight.data_ptr() == weights.embedding.data_ptr()
    assert weights.layers[0].mlp_out.weight.t().is_contiguous()


def test_checklist_07_dropout_is_off_even_where_the_model_is_in_training_mode(
    sequences: list[Tokens],
) -> None:
    model = small_model("gpt2")  # its config asks for dropout of 0.1
    weights = DecoderWeights.from_model(model)
    model.train()
    assert torch.equal(forward(weights, sequences), forward(weights, sequences))
