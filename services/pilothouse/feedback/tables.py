"""The tables. Times are seconds since 1970-01-01 UTC; ids are texts; lists are JSON.

A *task* is a prompt with K answers to rank, or with none and an answer to write. An *assignment* is one
rater's hold on a task, a *submission* what came of it. ``Task.taken`` counts leases and submissions together:
whoever holds the task's row knows whether a place is left.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can speak of them on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {list[int]: JSON, list[dict[str, str]]: JSON, dict[str, Any]: JSON}  # noqa: RUF012


class Kind(StrEnum):
    """What a queue's tasks ask for."""

    RANKING = "ranking"
    DEMONSTRATION = "demonstration"


class TaskState(StrEnum):
    """Whether a task may be claimed."""

    OPEN = "open"
    """Has a free place."""
    FULL = "full"
    """Every place is leased or answered, some are not answered yet."""
    DONE = "done"
    """Answered as often as the queue's overlap asks."""
    WITHDRAWN = "withdrawn"
    """Its prompt is vetoed."""


UNFINISHED = (TaskState.OPEN, TaskState.FULL)
"""States of a task that is not answered as often as it should be."""


class AssignmentState(StrEnum):
    """Where a rater stands with a task."""

    LEASED = "leased"
    ANSWERED = "answered"
    SKIPPED = "skipped"
    RELEASED = "released"
    """Given back; the rater may claim it again."""
    EXPIRED = "expired"
    """The lease ran out; the rater may claim it again."""


class RaterState(StrEnum):
    """Whether a rater may work, and whether that work counts."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXCLUDED = "excluded"


class Queue(Base):
    """Tasks of one kind with the same rules."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    instructions: Mapped[str]
    overlap: Mapped[int]
    lease_seconds: Mapped[int]
    """0 takes the service's default."""
    gold_every: Mapped[int]
    """One gold task among so many, on average; 0 for none."""
    paused: Mapped[bool]
    created_at: Mapped[float]


class Prompt(Base):
    """What was asked. The id is the digest of the content: the same prompt is one row."""

    __tablename__ = "prompts"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    """Empty where there are messages."""
    messages: Mapped[list[dict[str, str]]]
    """``{"role", "content"}`` each; empty where there is a text."""
    source: Mapped[str]
    vetoed: Mapped[bool] = mapped_column(default=False)
    flagged: Mapped[bool] = mapped_column(default=False)


class Task(Base):
    """One prompt to work on."""

    __tablename__ = "tasks"

    number: Mapped[int] = mapped_column(primary_key=True)
    """Counts up: equal priorities are handed out in this order."""
    id: Mapped[str] = mapped_column(unique=True)
    queue_name: Mapped[str] = mapped_column(ForeignKey("queues.name"))
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"))
    state: Mapped[str]
    priority: Mapped[float]
    gold_ranks: Mapped[list[int]]
    """Right ranks of the answers by position; empty for an ordinary task."""
    is_gold: Mapped[bool]
    taken: Mapped[int] = mapped_column(default=0)
    """Leases and submissions that count; never above the overlap. Gold tasks have no limit."""
    answered: Mapped[int] = mapped_column(default=0)
    """Submissions that count."""
    created_at: Mapped[float]

    queue: Mapped[Queue] = relationship()
    prompt: Mapped[Prompt] = relationship()
    answers: Mapped[list["Answer"]] = relationship(order_by="Answer.position")

    __table_args__ = (
        Index("ix_tasks_to_claim", "queue_name", "is_gold", "state", text("priority DESC"), "number"),
        Index("ix_tasks_prompt", "prompt_id"),
    )


class Answer(Base):
    """One of the K answers of a task."""

    __tablename__ = "answers"

    id: Mapped[str] = mapped_column(primary_key=True)
    task_number: Mapped[int] = mapped_column(ForeignKey("tasks.number"), index=True)
    position: Mapped[int]
    """From 0, as the task was given; never the order in which a rater sees it."""
    text: Mapped[str]
    model: Mapped[str]
    run: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    temperature: Mapped[float]
    seed: Mapped[int] = mapped_column(BigInteger)
    vetoed: Mapped[bool] = mapped_column(default=False)
    flagged: Mapped[bool] = mapped_column(default=False)


class Rater(Base):
    """A person, or a program that rates. The name is the only personal datum, and is here alone."""

    __tablename__ = "raters"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    """None for an erased person."""
    pseudonym: Mapped[str] = mapped_column(unique=True)
    """Random; what exports say."""
    password_hash: Mapped[str | None]
    """Argon2id; None for a program."""
    admin: Mapped[bool]
    state: Mapped[str]
    created_at: Mapped[float]


class Assignment(Base):
    """One rater's hold on one task."""

    __tablename__ = "assignments"

    id: Mapped[str] = mapped_column(primary_key=True)
    task_number: Mapped[int] = mapped_column(ForeignKey("tasks.number"))
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"))
    order: Mapped[list[int]]
    """Position of the answer shown first, second, ...: this rater's own; empty for an erased person."""
    state: Mapped[str]
    lease_expires_at: Mapped[float]
    claimed_at: Mapped[float]

    task: Mapped[Task] = relationship()

    __table_args__ = (
        UniqueConstraint("task_number", "rater_id"),
        Index("ix_assignments_rater_state", "rater_id", "state"),
        Index("ix_assignments_leases", "state", "lease_expires_at"),
    )


class Submission(Base):
    """What a rater said of a task."""

    __tablename__ = "submissions"

    id: Mapped[str] = mapped_column(primary_key=True)
    """The caller's: the same one again is the same submission."""
    digest: Mapped[str]
    """Of the content, so that another content under the same id is noticed."""
    assignment_id: Mapped[str] = mapped_column(ForeignKey("assignments.id"), unique=True)
    task_number: Mapped[int] = mapped_column(ForeignKey("tasks.number"), index=True)
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    kind: Mapped[str]
    """``ranking``, ``demonstration`` or ``skip``."""
    ranks: Mapped[list[int]]
    """By position of the task, 1 is best, equal ranks are ties; empty unless a ranking."""
    unsafe: Mapped[list[int]]
    """Positions of the task."""
    skip_reason: Mapped[str]
    comment: Mapped[str]
    seconds: Mapped[float]
    counts: Mapped[bool]
    """False where the rater was excluded."""
    created_at: Mapped[float]
    """0 for an erased person, and ``seconds`` too."""

    task: Mapped[Task] = relationship()
    rater: Mapped[Rater] = relationship()
    assignment: Mapped[Assignment] = relationship()


class Demonstration(Base):
    """An answer that a person wrote, from nothing or by mending another."""

    __tablename__ = "demonstrations"

    id: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    corrects: Mapped[str | None] = mapped_column(ForeignKey("answers.id"))
    """The answer that was mended and is beaten by this one."""
    text: Mapped[str]

    submission: Mapped[Submission] = relationship()


class Invite(Base):
    """Lets one person register."""

    __tablename__ = "invites"

    token_digest: Mapped[str] = mapped_column(primary_key=True)
    admin: Mapped[bool]
    created_at: Mapped[float]
    expires_at: Mapped[float]
    used_by: Mapped[str | None] = mapped_column(ForeignKey("raters.id"))


class Session(Base):
    """A browser that is logged in."""

    __tablename__ = "sessions"

    token_digest: Mapped[str] = mapped_column(primary_key=True)
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    created_at: Mapped[float]
    seen_at: Mapped[float]

    rater: Mapped[Rater] = relationship()


class Event(Base):
    """What was done, by whom: vetoes, exports, invitations, exclusions, erasures."""

    __tablename__ = "events"

    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    actor: Mapped[str]
    """Rater's id; empty for the operator."""
    action: Mapped[str]
    target: Mapped[str]
    detail: Mapped[str]
