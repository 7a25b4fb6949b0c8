"""What the database, the measures and the file formats have in common: plain values."""

from dataclasses import dataclass

MIN_ANSWERS, MAX_ANSWERS = 2, 9
"""How many answers a person ranks at once."""
ROLES = ("system", "user", "assistant")
"""Who speaks in a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who wrote an answer. Raters never see it."""

    model: str = ""
    """Name of the model or service; ``human`` for a written or edited answer."""
    run: str = ""
    """Run that the weights come from."""
    version: int = 0
    """Weight version."""
    temperature: float = 1.0
    """Sampling temperature."""
    seed: int = 0
    """Seed of the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRecord:
    """A text to continue, or a conversation to answer; one of ``text`` and ``messages`` is empty."""

    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    """(role, content), role one of `ROLES`."""
    source: str = ""
    """Where the prompt comes from, for people."""
    flagged: bool = False
    """Marked by an admin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """One answer."""

    text: str
    source: Source = Source()
    vetoed: bool = False
    """Ranks below every other answer, and is never a demonstration."""
    flagged: bool = False
    """Marked by an admin."""
    id: str = ""
    """Empty where it is no stored answer of a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRecord:
    """One rater's order of the K answers of a task."""

    id: str
    """Of the submission."""
    task: str
    queue: str
    prompt: PromptRecord
    answers: tuple[AnswerRecord, ...]
    """By position of the task."""
    ranks: tuple[int, ...]
    """As the rater gave them, by position, 1 is best, equal ranks are ties."""
    order: tuple[int, ...]
    """Positions in the order in which this rater saw them; empty where unknown."""
    rater: str
    """Pseudonym."""
    submitted_at: float
    """Seconds since 1970-01-01 UTC; 0 where unknown."""
    unsafe: tuple[int, ...] = ()
    """Positions that the rater called unsafe."""
    gold_ranks: tuple[int, ...] = ()
    """Right ranks, for a gold task."""
    comment: str = ""
    seconds: float = 0.0
    """How long it took; 0 where unknown."""
    weight: float = 1.0
    """How much the rater's rankings count in training: the rater's reliability, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationRecord:
    """An answer that a person wrote, from nothing or by mending another."""

    id: str
    task: str
    queue: str
    prompt: PromptRecord
    text: str
    corrects: AnswerRecord | None
    """The answer that was mended, which this one beats."""
    rater: str
    """Pseudonym."""
    submitted_at: float
    weight: float = 1.0
