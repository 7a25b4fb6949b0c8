"""What people should rank next: that on which the members of a reward ensemble disagree most.

Worth is the mutual information of a pair's outcome and the member that is right, in nats: H(mean p) -
mean H(p), where p is a member's probability that the first answer is better (BALD: Houlsby et al. 2011, arXiv
1112.5745, section 2). It is 0 where all members agree, however unsure each of them is: that is noise of
people's, which another label does not take away.
"""

from itertools import combinations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def priorities(scores: npt.ArrayLike) -> Numbers:
    """Returns, for each task, the mean worth of its pairs.

    Args:
        scores: [members, tasks, K], of members that are normalised alike; nan where a task has fewer answers.

    Returns:
        float64 [tasks], each in [0, log 2]; 0 for a task with fewer than two answers.
    """
    worth, pairs = _worth(np.asarray(scores, dtype=np.float64))
    return np.asarray(worth.sum(axis=1) / np.maximum(pairs, 1))


def most_telling(scores: npt.ArrayLike, count: int) -> list[int]:
    """Returns which ``count`` answers of one task have the pairs of the greatest mean worth, in their order.

    Args:
        scores: [members, K], of members that are normalised alike.
        count: From 2 on; all K answers where they are not more.
    """
    values = np.asarray(scores, dtype=np.float64)[:, None]  # [members, 1, K]
    answers = range(values.shape[2])
    worth = dict(zip(combinations(answers, 2), _worth(values)[0][0], strict=True))
    # K is at most 9: 126 sets at the most. Equal worth keeps the earliest answers.
    sets = combinations(answers, min(count, len(answers)))
    return list(max(sets, key=lambda chosen: sum(worth[pair] for pair in combinations(chosen, 2))))


def _worth(scores: Numbers) -> tuple[Numbers, npt.NDArray[np.int64]]:
    """Returns the worth of every pair [tasks, K (K - 1) / 2], 0 for none, and how many are there [tasks]."""
    first, second = np.triu_indices(scores.shape[2], k=1)  # in the order of `combinations`
    margins = scores[:, :, first] - scores[:, :, second]  # [members, tasks, pairs]
    known = np.isfinite(margins).all(axis=0)  # [tasks, pairs]
    chances = np.exp(-np.logaddexp(0.0, -np.where(known, margins, 0.0)))  # a pair that is none gains nothing
    gain = _entropy(chances.mean(axis=0)) - _entropy(chances).mean(axis=0)
    return np.maximum(gain, 0.0), known.sum(axis=1)


def _entropy(chances: Numbers) -> Numbers:
    """Returns the entropy of outcomes with these probabilities, in nats; 0 at 0 and 1."""
    inner = np.clip(chances, 1e-300, None), np.clip(1 - chances, 1e-300, None)
    return np.asarray(-chances * np.log(inner[0]) - (1 - chances) * np.log(inner[1]))
