"""Weights that change while sequences run: log-probs against a mixed-KV oracle and a plain forward."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pilothouse.models.decoder import DecoderWeights, hidden_states, logits
from pilothouse.models.packed import pack, packed_attention
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.requests import Completed, Span, Update, Version
from pilothouse.policy.sampling import Sampling
from pilothouse.tensors import Tokens

from .conftest import ARCHITECTURES, engine_weights, make_engine, model_of, random_prompts, request_of
from .oracle import mixed_oracle, plain_oracle


@pytest.fixture(params=ARCHITECTURES)
def versions(request: pytest.FixtureRequest) -> dict[Version, DecoderWeights]:
    return {
        Version(epoch, version): engine_weights(model_of(request.param, seed))
        for seed, (epoch, version) in enumerate([(0, 0), (1, 1), (1, 2), (2, 1)])
    }


@pytest.fixture
def engine(versions: dict[Version, DecoderWeights]) -> Iterator[PolicyEngine]:
    engine = make_engine(versions[Version(0, 0)], slots=6, prefill_tokens=64)
    engine.start()
    yield engine
    engine.close()


def run_with_swaps(
    engine: PolicyEngine, versions: dict[Version, DecoderWeights], prompts: list[Tokens], *, recompute: bool
) -> list[Completed]:
    """Generates while the versions come one after another, some tokens apart."""
    coming = list(versions.items())[1:]
    seen = 0

    def push(update: Update) -> None:
        nonlocal seen
        seen += len(update.tokens)
        if coming and seen >= 40:
            seen = 0
            version, weights = coming.pop(0)
            engine.swap(weights, version, recompute=recompute)

    request, collector = request_of(prompts, Sampling(max_new_tokens=40), n=2, stream=True, on_update=push)
    engine.submit(request)
    completions = collector.result()
    assert not coming
    return completions


def test_keep_equals_the_mixed_kv_oracle(
    engine: PolicyEngine, versions: dict[Version, DecoderWeights]
) -> None:
    prompts = random_prompts(5, seed=11)
    completions = run_with_swaps(engine, versions, prompts, recompute=False)
    assert sum(len(entry.spans) > 1 for entry in completions) >= 5
    for entry in completions:
        expected = mixed_oracle(versions, prompts[entry.prompt_index], entry)
        np.testing.assert_allclose(entry.logprobs, expected, atol=1e-4)


def test_recompute_equals_a_plain_forward_of_the_new_model(
    engine: PolicyEngine, versions: dict[Version, DecoderWeights]
) -> None:
    prompts = random_prompts(5, seed=12)
    completions = run_with_swaps(engine, versions, prompts, recompute=True)
    assert sum(len(entry.spans) > 1 for entry in completions) >= 5
    for entry in completions:
        expected = plain_oracle(versions, prompts[entry.prompt_index], entry)
        np.testing.assert_allclose(entry.logprobs, expected, atol=1e-4)


def test_the_oracle_itself_equals_a_plain_forward_without_swaps(
    versions: dict[Version, DecoderWeights],
) -> None:
    weights = versions[Version(0, 0)]
    prompt = random_prompts(1, seed=13, longest=20)[0]
    answer = random_prompts(1, seed=14, longest=20)[0]
    batch = pack([np.concatenate([prompt, answer])])
    hidden = hidden_states(weights, batch.tokens, batch.positions, packed_attention(weights.spec, batch))
    plain = logits(weights, hidden).log_softmax(-1)[len(prompt) - 1 : -1]
    expected = plain.gather(1, torch.tensor(answer).long()[:, None])[:, 0].detach().numpy()
    completed = Completed(
        0,
        0,
        answer,
        np.zeros(len(answer), np.float32),
        "length",
        (Span(Version(0, 0), 0, len(answer)),),
        len(prompt),
    )
    with torch.no_grad():
        found = mixed_oracle({Version(0, 0): weights}, prompt, completed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
