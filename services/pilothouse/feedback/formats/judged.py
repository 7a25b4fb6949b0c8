"""What people's rankings say for training, vetoes applied."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Literal

from pilothouse.feedback.records import AnswerRecord, DemonstrationRecord, RankingRecord, Source

HUMAN = Source(model="human")
"""Who wrote a demonstration or a correction."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A ranking as exports tell it."""

    record: RankingRecord
    ranks: tuple[int, ...]
    """By position, 1 is best, equal ranks are ties, none is skipped; vetoed answers share the last."""
    kind: Literal["ranking", "correction"] = "ranking"

    @property
    def is_gold(self) -> bool:
        """Whether the right ranks were known."""
        return bool(self.record.gold_ranks)


def dense(ranks: Sequence[int]) -> tuple[int, ...]:
    """Returns the same order in numbers from 1 that skip none."""
    places = {rank: place for place, rank in enumerate(sorted(set(ranks)), start=1)}
    return tuple(places[rank] for rank in ranks)


def judge(record: RankingRecord) -> Judged | None:
    """Puts vetoed answers below all others, whatever the rater said; None where every answer is vetoed."""
    if all(answer.vetoed for answer in record.answers):
        return None
    last = max(record.ranks) + 1
    pairs = zip(record.ranks, record.answers, strict=True)
    return Judged(record, dense([last if answer.vetoed else rank for rank, answer in pairs]))


def corrections(records: Iterable[DemonstrationRecord]) -> Iterator[Judged]:
    """Yields for every mended answer the ranking of two that it stands for: the correction is better."""
    for record in records:
        if record.corrects is None or record.corrects.text == record.text:
            continue
        ranking = RankingRecord(
            id=record.id,
            task=record.task,
            queue=record.queue,
            prompt=record.prompt,
            answers=(AnswerRecord(text=record.text, source=HUMAN), record.corrects),
            ranks=(1, 2),
            order=(0, 1),
            rater=record.rater,
            submitted_at=record.submitted_at,
            weight=record.weight,
        )
        yield Judged(ranking, (1, 2), "correction")


def by_task(items: Iterable[Judged]) -> Iterator[list[Judged]]:
    """Yields the rankings of the same answers together; a correction has answers of its own and is alone."""

    def key(item: Judged) -> tuple[str, str]:
        return item.record.task, item.record.id if item.kind == "correction" else ""

    for _, group in groupby(sorted(items, key=lambda item: (*key(item), item.record.id)), key):
        yield list(group)


def pairs(item: Judged) -> Iterator[tuple[str, str]]:
    """Yields (better text, worse text) for every two answers that are not tied, by their positions."""
    for (first, above), (second, below) in combinations(zip(item.record.answers, item.ranks, strict=True), 2):
        if above != below:
            yield (first.text, second.text) if above < below else (second.text, first.text)


def pair_count(item: Judged) -> int:
    """Returns how many pairs are not tied."""
    return sum(one != other for one, other in combinations(item.ranks, 2))


def labels(item: Judged) -> Iterator[tuple[str, bool]]:
    """Yields (text, whether it is good) by position.

    Among the answers that are not vetoed, those of the best rank are good and those of the worst are bad;
    those in between say nothing, and where all are tied none says anything. Vetoed answers are bad always; an
    answer that the rater called unsafe is never good.
    """
    answers = item.record.answers
    open_ranks = [rank for rank, answer in zip(item.ranks, answers, strict=True) if not answer.vetoed]
    best, worst = min(open_ranks), max(open_ranks)
    for position, (answer, rank) in enumerate(zip(answers, item.ranks, strict=True)):
        if answer.vetoed or (rank == worst and best < worst):
            yield answer.text, False
        elif rank == best < worst and position not in item.record.unsafe:
            yield answer.text, True
