"""Response log-probs against the plain way: all logits, log-softmax, gather."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from pilothouse.models import logprobs as module
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.logprobs import chosen_logprobs, response_inputs, response_logprobs
from pilothouse.models.tiny import small_model
from pilothouse.models.weights import Linear
from pilothouse.tensors import Tokens

Draw = Callable[..., list[Tokens]]
PROMPTS = [3, 8, 17, 1, 30, 1]
"""Prompt tokens of the fixture's sequences; two of them have no response."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of vocabulary, the last one not full."""
    monkeypatch.setattr(module, "CHUNK_VOCABULARY", 100)


def plain(
    model: PreTrainedModel, sequences: list[Tokens], prompts: list[int], temperature: float
) -> tuple[Tensor, Tensor]:
    chosen, entropies = [], []
    for sequence, prompt in zip(sequences, prompts, strict=True):
        tokens = torch.from_numpy(sequence).long()
        rows = (model(input_ids=tokens[None]).logits[0] / temperature).log_softmax(-1)[prompt - 1 : -1]
        chosen.append(rows.gather(1, tokens[prompt:, None])[:, 0])
        entropies.append(-(rows.exp() * rows).sum(-1))
    return torch.cat(chosen), torch.cat(entropies)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 512])
def test_logprobs_entropies_and_gradients_equal_the_plain_way(
    model: PreTrainedModel, sequences: list[Tokens], chunk_tokens: int
) -> None:
    weights = DecoderWeights.from_model(model)
    ours = response_logprobs(
        weights, sequences, PROMPTS, temperature=0.7, chunk_tokens=chunk_tokens, return_entropy=True
    )
    slopes = torch.randn_like(ours[0]), torch.randn_like(ours[1])
    (ours[0] * slopes[0] + ours[1] * slopes[1]).sum().backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    theirs = plain(model, sequences, PROMPTS, 0.7)
    (theirs[0] * slopes[0] + theirs[1] * slopes[1]).sum().backward()
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        scale = max(parameter.grad.abs().max().item(), 1.0)
        torch.testing.assert_close(grads[name], parameter.grad, rtol=0, atol=1e-5 * scale, msg=name)


def toy(head: Tensor) -> DecoderWeights:
    """A model of which only the head is used."""
    weights = DecoderWeights.from_model(small_model("llama-tied"))
    weights.head = Linear(head)
    return weights


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_the_backward_pass_agrees_with_finite_differences(data: st.DataObject) -> None:
    rows, vocabulary = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 230))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    hidden = torch.randn(rows, 3, generator=generator)
    head = torch.randn(vocabulary, 3, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)

    def loss(hidden: Tensor) -> Tensor:
        logprobs, entropies = chosen_logprobs(toy(head), hidden, targets, chunk_tokens=2, entropy=True)
        assert entropies is not None
        return (logprobs + 0.5 * entropies).sum()

    leaf = hidden.clone().requires_grad_()
    loss(leaf).backward()
    direction = torch.randn(rows, 3, generator=generator)
    step = 1e-2
    numeric = (loss(hidden + step * direction) - loss(hidden - step * direction)) / (2 * step)
    assert leaf.grad is not None
    assert (leaf.grad * direction).sum().item() == pytest.approx(numeric.item(), abs=5e-2)


def test_a_head_that_needs_no_gradient_gets_none() -> None:
    head = torch.randn(50, 3)
    hidden = torch.randn(4, 3, requires_grad=True)
    chosen_logprobs(toy(head), hidden, torch.arange(4))[0].sum().backward()
    assert head.grad is None
    assert hidden.grad is not None


def test_checklist_06_a_token_is_read_from_the_position_before_it() -> None:
    """Three tokens by hand: the prompt [5], the response [6, 7]."""
    inputs, rows, targets = response_inputs([np.array([5, 6, 7], np.int32)], [1])
    assert [row.tolist() for row in inputs] == [[5, 6]]
    assert rows.tolist() == [0, 1]
    assert targets.tolist() == [6, 7]


def test_checklist_04_logprobs_are_those_of_the_sampling_temperature(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    weights = DecoderWeights.from_model(model)
    with torch.no_grad():
        ours = response_logprobs(weights, sequences, PROMPTS, temperature=0.3)
        torch.testing.assert_close(ours, plain(model, sequences, PROMPTS, 0.3)[0], rtol=0, atol=1e-4)


def test_checklist_46_logprobs_of_bfloat16_weights_are_computed_in_float32(draw: Draw) -> None:
    model = small_model("llama-tied").to(dtype=torch.bfloat16)
    sequences = draw([12, 30])
    with torch.no_grad():
        half = response_logprobs(DecoderWeights.from_model(model), sequences, [4, 4])
        full = response_logprobs(DecoderWeights.from_model(model.float()), sequences, [4, 4])
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 0.05


def test_micro_batches_give_the_logprobs_of_the_whole_batch(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    weights = DecoderWeights.from_model(model)
    with torch.no_grad():
        whole = response_logprobs(weights, sequences, PROMPTS)
        parts = [response_logprobs(weights, sequences[k : k + 2], PROMPTS[k : k + 2]) for k in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


def test_no_block_of_logits_is_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    seen: list[tuple[int, ...]] = []
    compute = module._logits

    def watched(hidden: Tensor, head: Tensor, scale: float) -> Tensor:
        block = compute(hidden, head, scale)
        seen.append(tuple(block.shape))
        return block

    monkeypatch.setattr(module, "_logits", watched)
    weights = DecoderWeights.from_model(small_model("llama-tied"))
    response_logprobs(weights, draw([40, 50]), [1, 1], chunk_tokens=16).sum().backward()
    assert max(rows for rows, _ in seen) == 16
    assert max(columns for _, columns in seen) == 100


def test_sequences_without_a_response_have_no_logprobs(draw: Draw) -> None:
    weights = DecoderWeights.from_model(small_model("llama-tied"))
    assert response_logprobs(weights, draw([5, 1]), [5, 1]).shape == (0,)
    assert [len(part) for part in response_logprobs(weights, draw([5]), [5], return_entropy=True)] == [0, 0]


@pytest.mark.parametrize("prompt", [0, 6])
def test_a_prompt_that_does_not_fit_is_refused(prompt: int, draw: Draw) -> None:
    with pytest.raises(ValueError, match="cannot begin with a prompt"):
        response_inputs(draw([5]), [prompt])


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        chosen_logprobs(toy(torch.zeros(5, 3)), torch.zeros(1, 3), torch.zeros(1).long(), temperature=0.0)
