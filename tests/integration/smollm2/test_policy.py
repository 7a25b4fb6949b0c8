"""Generation on real weights, over gRPC, against transformers and against itself."""

import asyncio
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest

from pilothouse.client import AsyncPolicyClient, Completion, SamplingParams
from pilothouse.local import LocalStack
from pilothouse.tensors import Tokens

pytestmark = pytest.mark.real


async def ask(stack: LocalStack, *calls: dict[str, Any]) -> list[list[Completion]]:
    """Makes all calls at once and returns their completions."""
    async with AsyncPolicyClient(stack.targets["policy"], timeout_seconds=500) as policy:
        return await asyncio.gather(*(policy.generate(**call) for call in calls))


def call(prompt: Tokens, seed: int = 0, n: int = 1, **sampling: Any) -> dict[str, Any]:
    params = SamplingParams(ignore_eos=True, **sampling)
    return {"prompts": [prompt], "sampling": params, "n": n, "seeds": [seed]}


async def test_greedy_equals_transformers_for_ragged_prompts_in_mixed_batches(
    stack: LocalStack, oracle: Any, prompts: list[Tokens]
) -> None:
    limits = list(islice(cycle([32, 5, 24, 1, 12]), len(prompts)))
    greedy = [call(row, temperature=0, max_new_tokens=n) for row, n in zip(prompts, limits, strict=True)]
    sampled = [call(row, seed, temperature=0.7, max_new_tokens=16) for seed, row in enumerate(prompts)]
    mixed = [one for pair in zip(greedy, sampled, strict=True) for one in pair]
    answers = (await ask(stack, *mixed))[::2]
    for prompt, limit, (completion,) in zip(prompts, limits, answers, strict=True):
        assert completion.tokens.tolist() == oracle.greedy(prompt, limit)
        expected = oracle.logprobs(prompt, completion.tokens)
        np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.9, "top_k": 200}], ids=str
)
async def test_behaviour_logprobs_equal_a_plain_forward_of_transformers(
    stack: LocalStack, oracle: Any, prompts: list[Tokens], sampling: dict[str, Any]
) -> None:
    calls = [call(row, seed, max_new_tokens=24, **sampling) for seed, row in enumerate(prompts)]
    for prompt, (completion,) in zip(prompts, await ask(stack, *calls), strict=True):
        expected = oracle.logprobs(prompt, completion.tokens, sampling["temperature"])
        np.testing.assert_allclose(completion.logprobs, expected, atol=1e-4)
