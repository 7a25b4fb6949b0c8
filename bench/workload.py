"""The work both sides do, from seeds: token ids, prompt lengths and response lengths.

Response lengths are forced (end-of-sequence is off), so that every engine samples the same number of tokens.
Imported in every environment; needs NumPy only.
"""

from dataclasses import dataclass

import numpy as np

FIRST_TOKEN, LAST_TOKEN = 100, 48_000  # ordinary tokens of SmolLM2's vocabulary, no special ones


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts and forced response lengths."""

    prompts: list[list[int]]
    """Token ids of every request."""
    response_lengths: list[int]
    """Tokens to sample for every request."""

    @property
    def response_tokens(self) -> int:
        """Useful tokens: those that somebody asked for."""
        return sum(self.response_lengths)


def requests(count: int, *, seed: int, ragged: bool, prompt: int = 64, response: int = 64) -> Workload:
    """Returns ``count`` requests.

    Args:
        count: Number of requests.
        seed: Decides tokens and lengths.
        ragged: Prompt lengths uniform in [prompt/4, 7*prompt/4], response lengths log-normal (sigma 0.6)
            around ``response`` cut to [response/4, 3*response]; else all equal.
        prompt: Mean prompt length in tokens.
        response: Median response length in tokens.
    """
    random = np.random.default_rng(seed)
    prompts, responses = np.full(count, prompt), np.full(count, response)
    if ragged:
        prompts = random.integers(prompt // 4, 7 * prompt // 4 + 1, size=count)
        drawn = response * np.exp(0.6 * random.standard_normal(count))
        responses = np.clip(drawn.round().astype(int), response // 4, 3 * response)
    return Workload(
        prompts=[random.integers(FIRST_TOKEN, LAST_TOKEN, size=int(length)).tolist() for length in prompts],
        response_lengths=[int(length) for length in responses],
    )
