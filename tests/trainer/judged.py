"""Held-out rankings made up for tests: encoded answers of given lengths, ranks and raters."""

from collections.abc import Sequence

import numpy as np

from pilothouse.trainer.data.encode import EncodedRanking


def ranking(
    prompt: int,
    lengths: Sequence[int],
    ranks: Sequence[int],
    *,
    task: str = "",
    rater: str = "",
    weight: float = 1.0,
) -> EncodedRanking:
    """A ranking of answers of so many tokens; answer i is made of token i, so that it is known again."""
    rows = [np.array([prompt, *[100 + answer] * length], np.int32) for answer, length in enumerate(lengths)]
    name = f"{prompt}-{task}-{rater}"
    return EncodedRanking(name, tuple(rows), tuple(ranks), 1, weight, task, rater)


def crowd(count: int, *, seed: int, sharpness: float = 1.0) -> tuple[list[np.ndarray], list[EncodedRanking]]:
    generator = np.random.default_rng(seed)
    scores, items = [], []
    for prompt in range(count):
        values = generator.normal(0, 1.5, 2)
        first = generator.random() < 1 / (1 + np.exp(-sharpness * (values[0] - values[1])))
        lengths = generator.integers(1, 30, 2)
        items.append(ranking(prompt, lengths.tolist(), (1, 2) if first else (2, 1)))
        scores.append(values.astype(np.float32))
    return scores, items
