"""How often people agree with each other, and how often a reward model does with them on the same pairs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pilothouse.tensors import Floats
from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.pairs import independent_units
from pilothouse.trainer.rankings import BUCKETS
from pilothouse.trainer.statistics import Interval, sums_interval


@dataclass(frozen=True, slots=True)
class AgreementBucket:
    """Pairs on which the model's confidence lies in [low, high)."""

    low: float
    high: float
    pairs: int
    """Pairs of answers that two raters or more have ranked, neither tying them."""
    people: Interval | None
    """Share of pairs of raters with the same order; None without pairs."""
    model: Interval | None
    """Share of the raters' orders that are also the model's."""


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """All such pairs, and by the model's confidence. A model need not agree with people more than they do."""

    tasks: int
    """Tasks that two raters or more have ranked."""
    raters: int
    overall: AgreementBucket
    buckets: tuple[AgreementBucket, ...]


@dataclass(frozen=True, slots=True)
class _Votes:
    """What people say of one pair of answers."""

    unit: int
    margin: float
    """Score of the first answer minus the second's."""
    first: int
    """Raters who prefer the first."""
    second: int

    @property
    def terms(self) -> tuple[float, ...]:
        """Agreeing pairs of raters, pairs of raters, orders that are the model's, orders."""
        votes, same = self.first + self.second, (self.first, self.second)
        agreeing = sum(count * (count - 1) / 2 for count in same)
        right = self.first if self.margin > 0 else self.second if self.margin < 0 else votes / 2
        return agreeing, votes * (votes - 1) / 2, right, votes


def human_agreement(
    scores: Sequence[Floats], items: Sequence[EncodedRanking], *, seed: int = 0
) -> HumanAgreement | None:
    """Compares people with people and with the model, on tasks that several raters have ranked.

    Answers are told apart by their tokens, not by their place in a ranking. A rater's later order of a pair
    replaces the earlier.

    Args:
        scores: One row [K] for each ranking.
        items: The rankings; those without task or rater do not count.
        seed: Of the bootstrap, which draws prompts.

    Returns:
        None where no two raters have ranked the same pair of answers.
    """
    tasks: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        if item.task and item.rater:
            tasks[item.task].append(number)
    units, found, raters, shared = independent_units(items), [], set[str](), 0
    for numbers in tasks.values():
        names = {items[number].rater for number in numbers}
        if len(names) > 1:
            votes = _votes([(items[number], scores[number]) for number in numbers], units[numbers[0]])
            found += votes
            raters |= names
            shared += bool(votes)
    if not found:
        return None
    confidence = 1 / (1 + np.exp(-np.abs([votes.margin for votes in found])))
    rows = np.array([votes.terms for votes in found])
    owners = np.array([votes.unit for votes in found])

    def bucket(low: float, high: float) -> AgreementBucket:
        inside = (confidence >= low) & ((confidence < high) | (high == 1.0))
        terms = rows * inside[:, None]
        people = sums_interval(terms, lambda sums: sums[:, 0] / sums[:, 1], units=owners, seed=seed)
        model = sums_interval(terms, lambda sums: sums[:, 2] / sums[:, 3], units=owners, seed=seed)
        return AgreementBucket(low, high, int(inside.sum()), people, model)

    buckets = tuple(bucket(low, high) for low, high in pairwise(BUCKETS))
    return HumanAgreement(shared, len(raters), bucket(BUCKETS[0], BUCKETS[-1]), buckets)


def _votes(rankings: Sequence[tuple[EncodedRanking, Floats]], unit: int) -> list[_Votes]:
    """Returns the pairs of one task's answers on which two raters or more have said which is better."""
    score: dict[bytes, float] = {}
    said: dict[tuple[bytes, bytes], dict[str, bool]] = defaultdict(dict)
    for item, row in rankings:
        answers = [sequence.astype("<i4").tobytes() for sequence in item.sequences]
        score |= {answer: float(value) for answer, value in zip(answers, row, strict=True)}
        for better, first in zip(item.ranks, answers, strict=True):
            for worse, second in zip(item.ranks, answers, strict=True):
                if better < worse:
                    pair = (first, second) if first < second else (second, first)
                    said[pair][item.rater] = pair[0] == first
    return [
        _Votes(unit, score[pair[0]] - score[pair[1]], sum(votes.values()), len(votes) - sum(votes.values()))
        for pair, votes in said.items()
        if len(votes) > 1
    ]
