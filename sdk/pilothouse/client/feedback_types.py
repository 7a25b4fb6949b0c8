"""What the feedback clients take and return. Times are seconds since 1970-01-01 UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pilothouse.client.types import Chat

TaskKind = Literal["ranking", "demonstration"]
RaterState = Literal["active", "disabled", "excluded"]
Adjustment = Literal["veto", "flag"]
SkipReason = Literal["unclear", "offensive", "language", "equal", "other"]
ExportFormat = Literal[
    "ranking",
    "preference",
    "preference-implicit",
    "unpaired",
    "demonstration",
    "label-studio",
    "argilla",
]
FileFormat = Literal["jsonl", "parquet"]
Split = Literal["all", "train", "held-out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Rules of a queue."""

    name: str
    """Letters, digits, ``-``, ``_`` and ``.``, at most 64."""
    kind: TaskKind = "ranking"
    instructions: str = ""
    """Shown above every task."""
    overlap: int = 1
    """How many raters shall answer each task."""
    lease_seconds: int = 0
    """0 takes the service's default."""
    gold_every: int = 0
    """One gold task among so many tasks of a rater, on average; 0 for none."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and what is in it."""

    settings: QueueSettings
    open_tasks: int
    """Not answered as often as they should be; gold ones not counted."""
    done_tasks: int
    gold_tasks: int
    leased: int
    submissions: int
    skips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSource:
    """Who wrote an answer. Raters never see it."""

    model: str = ""
    run: str = ""
    version: int = 0
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackAnswer:
    """An answer to rank."""

    text: str
    source: AnswerSource = AnswerSource()
    id: str = ""
    """Set by the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTask:
    """A prompt and K answers to rank, or none and an answer to write."""

    id: str
    """Unique; the caller's, so that adding may be repeated."""
    prompt: str | Chat
    answers: Sequence[FeedbackAnswer | str] = ()
    priority: float = 0.0
    """The highest go first."""
    gold_ranks: Sequence[int] = ()
    """Right ranks, 1 the best; makes this a gold task."""
    source: str = ""
    """Where the prompt comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task in a rater's hands."""

    id: str
    task: str
    queue: str
    kind: TaskKind
    instructions: str
    prompt: str | Chat
    answers: tuple[FeedbackAnswer, ...]
    """In this rater's own order, without sources."""
    lease_expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Ranks of the answers in the order of the assignment."""

    ranks: Sequence[int]
    """1 is best; equal ranks are ties."""
    unsafe: Sequence[int] = ()
    """Places, from 0, of unsafe answers."""
    corrections: Mapping[int, str] = field(default_factory=dict)
    """Place, from 0 → better text."""


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """An answer that the rater wrote."""

    text: str


@dataclass(frozen=True, slots=True)
class Skip:
    """No answer, and why."""

    reason: SkipReason = "other"


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation for one person."""

    token: str
    """Secret; known to nobody else."""
    url: str
    """Page that takes it; empty where the service has no page."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; nan where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterReport:
    """What is known of a rater's work; nan where it is unknown."""

    rater: str
    pseudonym: str
    state: RaterState
    rankings: int
    skips: int
    agreement: float
    """Share of pairs ordered as the others' consensus orders them."""
    gold_accuracy: float
    """Share of gold pairs ordered right."""
    reliability: float
    """Of the consensus model: 0 random, 1 perfect."""
    drift: float
    """Agreement in the second half of the work minus the first."""
    first_position_rate: float
    """Share of tasks in which the answer shown first was put first."""
    suspicions: tuple[str, ...]
    """``random``, ``position``, ``copy``."""
    median_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Agreement, bias and raters."""

    rankings: int
    overlapping_tasks: int
    """Tasks with at least two rankings."""
    alpha: Estimate
    """Krippendorff's alpha, ordinal."""
    pair_agreement: Estimate
    tau: Estimate
    """Mean Kendall tau-b of two raters of a task."""
    gold_accuracy: Estimate
    top_by_position: tuple[float, ...]
    """Share of rankings with each shown position at the top."""
    longer_preferred: Estimate
    raters: tuple[RaterReport, ...]


@dataclass(frozen=True, slots=True)
class FeedbackProgress:
    """How much was collected for exports: gold tasks are not counted."""

    rankings: int
    """That count."""
    demonstrations: int
    """Demonstrations and corrections that count."""
    open_tasks: int
    """Not answered as often as they should be."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import added."""

    tasks: int
    rankings: int
    known: int
    """Records that were there already."""
