import numpy as np
import pytest
from scipy import stats
from tests.trainer.judged import ranking

from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.length_bias import LengthBias, length_bias
from pilothouse.trainer.pairs import make_pairs


def _made(count: int, *, pull: float, seed: int = 0) -> tuple[list[np.ndarray], list[EncodedRanking]]:
    """Four answers a prompt; the score is quality, a pull of length, and noise."""
    generator = np.random.default_rng(seed)
    scores, items = [], []
    for prompt in range(count):
        lengths, quality = generator.integers(1, 40, 4), generator.normal(0, 1, 4)
        ranks = stats.rankdata(-quality, method="ordinal")
        items.append(ranking(prompt, lengths.tolist(), [int(rank) for rank in ranks]))
        shift = generator.normal(0, 5)
        scores.append(shift + quality + pull * lengths / 10 + generator.normal(0, 0.3, 4))
    return scores, items


def _measured(scores: list[np.ndarray], items: list[EncodedRanking]) -> LengthBias:
    return length_bias(scores, items, make_pairs(scores, items))


def test_correlations_are_those_within_prompts() -> None:
    scores, items = _made(60, pull=0.5)
    found = _measured(scores, items)
    lengths = [np.array([len(row) for row in item.sequences], float) for item in items]
    centred = [np.concatenate([row - row.mean() for row in rows]) for rows in (scores, lengths)]
    ranked = [np.concatenate([stats.rankdata(row) - 2.5 for row in rows]) for rows in (scores, lengths)]
    quality = np.concatenate([2.5 - np.array(item.ranks, float) for item in items])
    assert found.pearson is not None
    assert found.pearson.mean == pytest.approx(np.corrcoef(*centred)[0, 1])
    assert found.spearman is not None
    assert found.spearman.mean == pytest.approx(np.corrcoef(*ranked)[0, 1])
    left = [values - quality * (quality @ values) / (quality @ quality) for values in centred]
    assert found.partial is not None
    assert found.partial.mean == pytest.approx(np.corrcoef(*left)[0, 1])
    assert found.partial.low < found.partial.mean < found.partial.high


def test_a_model_that_counts_words_shows() -> None:
    fair, biased = _measured(*_made(200, pull=0.0)), _measured(*_made(200, pull=2.0))
    assert fair.longer_accuracy is not None
    assert fair.shorter_accuracy is not None
    assert fair.shorter_accuracy.mean == pytest.approx(fair.longer_accuracy.mean, abs=0.05)
    assert fair.partial is not None
    assert fair.partial.low < 0 < fair.partial.high
    assert biased.longer_accuracy is not None
    assert biased.shorter_accuracy is not None
    assert biased.longer_accuracy.low > biased.shorter_accuracy.high + 0.3
    assert biased.partial is not None
    assert biased.partial.low > 0.8


def test_answers_of_one_length_have_no_correlation() -> None:
    found = _measured([np.array([1.0, 0.0])] * 3, [ranking(prompt, (4, 4), (1, 2)) for prompt in range(3)])
    assert (found.longer_pairs, found.shorter_pairs) == (0, 0)
    assert found.longer_accuracy is found.shorter_accuracy is None
    assert found.pearson is found.spearman is found.partial is None


def test_two_answers_whose_score_follows_the_ranks_leave_nothing_to_explain() -> None:
    items = [ranking(prompt, (2, 5 + prompt), (1, 2)) for prompt in range(3)]
    assert _measured([np.array([1.0, 0.0])] * 3, items).partial is None
