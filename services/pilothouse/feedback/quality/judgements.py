"""What the measures need to know of a ranking. Nothing here knows texts, tables or messages."""

from dataclasses import dataclass

from pilothouse.feedback.records import MAX_ANSWERS, MIN_ANSWERS, RankingRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One rater's order of the K answers of a task; everything is by the answer's position in the task."""

    task: str
    rater: str
    ranks: tuple[int, ...]
    """K ranks, 2 to 9 of them, 1 is best, equal ranks are ties. Only their order counts."""
    order: tuple[int, ...] = ()
    """Positions in the order in which the rater saw them; empty where unknown."""
    gold: tuple[int, ...] = ()
    """K right ranks of a gold task; empty otherwise."""
    lengths: tuple[int, ...] = ()
    """K lengths in characters; empty where unknown."""
    seconds: float = 0.0
    """How long it took; 0 where unknown."""
    at: float = 0.0
    """When it was given, in seconds since 1970-01-01 UTC; 0 where unknown."""

    def __post_init__(self) -> None:
        """Refuses what is no ranking.

        Raises:
            ValueError: The fields do not fit together.
        """
        answers = len(self.ranks)
        if not MIN_ANSWERS <= answers <= MAX_ANSWERS:
            raise ValueError(f"task {self.task}: need {MIN_ANSWERS} to {MAX_ANSWERS} ranks, got {answers}")
        if self.order and sorted(self.order) != list(range(answers)):
            raise ValueError(
                f"task {self.task}: order must name the positions 0 to {answers - 1} once each, "
                f"got {self.order}"
            )
        for name, values in (("gold", self.gold), ("lengths", self.lengths)):
            if values and len(values) != answers:
                raise ValueError(
                    f"task {self.task}: {name} must be empty or have one value for each of the {answers} "
                    f"answers, got {len(values)}"
                )


def judgement(record: RankingRecord) -> Judgement:
    """Returns what the measures need to know of a stored ranking."""
    return Judgement(
        task=record.task,
        rater=record.rater,
        ranks=record.ranks,
        order=record.order,
        gold=record.gold_ranks,
        lengths=tuple(len(answer.text) for answer in record.answers),
        seconds=record.seconds,
        at=record.submitted_at,
    )
