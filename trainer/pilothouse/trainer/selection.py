"""Which tasks people should rank next: those on which the members of a reward ensemble disagree most."""

import numpy as np
import numpy.typing as npt


def priorities(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns, for each task, how much an answer of people's would tell about which member is right.

    The mean over the task's pairs of the mutual information of a pair's outcome and the member, in nats:
    H(mean p) - mean H(p), where p is a member's probability that the first answer is better (BALD: Houlsby et
    al. 2011, arXiv 1112.5745, section 2). It is 0 where all members agree, however unsure each of them is:
    that is noise of people's, which another label does not take away.

    Args:
        scores: [members, tasks, K], of members that are normalised alike; nan where a task has fewer answers.

    Returns:
        float64 [tasks], each in [0, log 2]; 0 for a task with fewer than two answers.
    """
    values = np.asarray(scores, dtype=np.float64)
    first, second = np.triu_indices(values.shape[2], k=1)
    margins = values[:, :, first] - values[:, :, second]  # [members, tasks, pairs]
    known = np.isfinite(margins).all(axis=0)  # [tasks, pairs]
    chances = np.exp(-np.logaddexp(0.0, -np.where(known, margins, 0.0)))  # a pair that is none gains nothing
    gain = np.maximum(_entropy(chances.mean(axis=0)) - _entropy(chances).mean(axis=0), 0.0)
    return np.asarray(gain.sum(axis=1) / np.maximum(known.sum(axis=1), 1))


def _entropy(chances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the entropy of outcomes with these probabilities, in nats; 0 at 0 and 1."""
    inner = np.clip(chances, 1e-300, None), np.clip(1 - chances, 1e-300, None)
    return np.asarray(-chances * np.log(inner[0]) - (1 - chances) * np.log(inner[1]))
