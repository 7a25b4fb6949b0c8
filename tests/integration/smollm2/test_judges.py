"""The frozen reference beside the policy, and the exported reward model beside torch, on real weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilothouse.client import PolicyClient, ReferenceClient, SamplingParams
from pilothouse.local import LocalStack
from pilothouse.models.export import export_reward_model
from pilothouse.models.heads import ScalarModel
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Buckets, Row
from pilothouse.reward.backends.onnx import OnnxBackend
from pilothouse.reward.backends.torch import TorchBackend
from pilothouse.tensors import Tokens

pytestmark = pytest.mark.real


def test_reference_policy_and_transformers_give_the_same_logprobs(
    stack: LocalStack, oracle: Any, prompts: list[Tokens]
) -> None:
    sampling = SamplingParams(max_new_tokens=24, temperature=0.7, ignore_eos=True)
    with (
        PolicyClient(stack.targets["policy"]) as policy,
        ReferenceClient(stack.targets["reference"]) as reference,
    ):
        completions = policy.generate(prompts, sampling, seeds=range(len(prompts)))
        sequences = [np.concatenate([p, c.tokens]) for p, c in zip(prompts, completions, strict=True)]
        lengths = [len(prompt) for prompt in prompts]
        ours = policy.logprobs(sequences, lengths, temperature=0.7)
        frozen = reference.logprobs(
            sequences, lengths, temperature=0.7, behaviour=[completion.logprobs for completion in completions]
        )
        assert policy.model().digest == reference.model().reference_digest
    assert frozen.kl is not None
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        np.testing.assert_allclose(frozen.rows[row], ours.rows[row], atol=1e-4)
        np.testing.assert_allclose(frozen.kl[row], 0, atol=1e-4)
        plain = oracle.logprobs(prompt, completion.tokens, 0.7)
        np.testing.assert_allclose(frozen.rows[row], plain, atol=1e-4)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A folder that does not stay: it gets two copies of the model."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_the_exported_reward_model_scores_as_torch_does(
    oracle: Any, codec: TextCodec, prompts: list[Tokens], work: Path
) -> None:
    scalar = ScalarModel.from_causal_lm(oracle.model, seed=1, pad_id=codec.pad_id)
    scalar.gain, scalar.bias = 1.5, -0.25
    scalar.save(work / "torch", codec, max_sequence_tokens=256)
    report = export_reward_model(work / "torch", work / "onnx")
    assert report.max_abs_difference <= 1e-4
    random = np.random.default_rng(0)
    noise = [random.integers(0, codec.vocabulary_size, length).astype(np.int32) for length in (1, 33, 200)]
    rows = [Row(tokens=tokens) for tokens in [*prompts, *noise]]
    expected = TorchBackend(work / "torch").score(rows)
    scores = OnnxBackend(work / "onnx", Buckets((16, 64, 256))).score(rows)
    assert np.ptp(expected) > 0.1, "the scores tell rows apart"
    np.testing.assert_allclose(scores, expected, atol=1e-4)
