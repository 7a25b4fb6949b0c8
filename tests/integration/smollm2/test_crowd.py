"""The same seeded requests alone and in a crowd, on real weights."""

import asyncio
from typing import Any

import numpy as np
import pytest

from pilothouse.client import AsyncPolicyClient, Completion, SamplingParams
from pilothouse.local import LocalStack
from pilothouse.tensors import Tokens

SAMPLES = (1, 2, 4, 8, 16, 24, 24, 24, 24, 24, 24)
"""Completions of each request: alone, so many rows make its batch."""
NEW_TOKENS = 60
ONE_IN_TOKENS = 10_000
"""The shape of a batch moves log-probs by up to 5e-5. That decides a draw only where its first two candidates
arrive so close together: one such token in this many is accepted, none was seen so far."""


@pytest.mark.real
@pytest.mark.timeout(500)
async def test_seeded_requests_give_the_same_alone_and_in_a_crowd(
    stack: LocalStack,
    prompts: list[Tokens],
    record_property: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with AsyncPolicyClient(stack.targets["policy"], timeout_seconds=400) as policy:

        async def ask(number: int, n: int, **sampling: Any) -> list[Completion]:
            prompt = prompts[number % len(prompts)]
            return await policy.generate(
                [prompt], SamplingParams(ignore_eos=True, **sampling), n=n, seeds=[number]
            )

        alone = [await ask(number, n, max_new_tokens=NEW_TOKENS) for number, n in enumerate(SAMPLES)]
        calls = []
        for number, n in enumerate(SAMPLES):
            calls.append(ask(number, n, max_new_tokens=NEW_TOKENS))
            calls.append(ask(100 + number, 2, max_new_tokens=3 + 5 * number, temperature=0.7))
        crowd = (await asyncio.gather(*calls))[::2]

    compared = different = 0
    for before, after in zip(alone, crowd, strict=True):
        for one, other in zip(before, after, strict=True):
            same = first_difference(one.tokens, other.tokens)
            np.testing.assert_allclose(one.logprobs[:same], other.logprobs[:same], atol=1e-4)
            compared += min(same + 1, NEW_TOKENS)
            different += same < NEW_TOKENS
    record_property("tokens_compared", compared)
    record_property("tokens_different", different)
    with capsys.disabled():
        print(f"\nalone and in a crowd: {different} of {compared} tokens differ")
    assert compared >= 10_000
    assert different <= compared // ONE_IN_TOKENS


def first_difference(one: Tokens, other: Tokens) -> int:
    """Returns how many tokens agree; what follows the first other token is another completion."""
    differing = np.flatnonzero(one != other)
    return int(differing[0]) if len(differing) else len(one)
