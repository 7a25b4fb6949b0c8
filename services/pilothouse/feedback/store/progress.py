"""How much was collected, over all and by one rater."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, func, select
from sqlalchemy.orm import Session

from pilothouse.feedback.store.queues import check_queue
from pilothouse.feedback.tables import UNFINISHED, Demonstration, Prompt, Submission, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What exports are made of: gold tasks and vetoed prompts are not counted."""

    rankings: int
    """That count."""
    demonstrations: int
    """Demonstrations and corrections that count."""
    open_tasks: int
    """Not answered as often as they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProgress:
    """What one rater did."""

    today: int
    """Tasks answered since ``since``."""
    total: int
    """Tasks answered."""
    skipped: int


def progress(session: Session, queue: str = "") -> Progress:
    """Counts what a queue, or all queues, have collected.

    Raises:
        NotFoundError: There is no such queue.
    """
    check_queue(session, queue)
    ours: list[ColumnElement[bool]] = [Task.is_gold.is_(False), Prompt.vetoed.is_(False)]
    if queue:
        ours.append(Task.queue_name == queue)
    said = dict(
        session.execute(
            select(Submission.kind, func.count())
            .join(Submission.task)
            .join(Task.prompt)
            .where(Submission.counts, *ours)
            .group_by(Submission.kind)
        )
        .tuples()
        .all()
    )
    written = session.scalar(
        select(func.count(Demonstration.id))
        .join(Demonstration.submission)
        .join(Submission.task)
        .join(Task.prompt)
        .where(Submission.counts, *ours)
    )
    left = session.scalar(
        select(func.count(Task.number)).join(Task.prompt).where(Task.state.in_(UNFINISHED), *ours)
    )
    return Progress(rankings=said.get("ranking", 0), demonstrations=written or 0, open_tasks=left or 0)


def own_progress(session: Session, rater: str, *, since: float) -> OwnProgress:
    """Counts what one rater did; ``since`` is the beginning of today."""
    rows = session.execute(
        select(Submission.kind, func.count(), func.sum((Submission.created_at >= since).cast(Integer)))
        .where(Submission.rater_id == rater)
        .group_by(Submission.kind)
    ).all()
    answered = [(count, today) for kind, count, today in rows if kind != "skip"]
    return OwnProgress(
        today=int(sum(today or 0 for _, today in answered)),
        total=sum(count for count, _ in answered),
        skipped=sum(count for kind, count, _ in rows if kind == "skip"),
    )


def skips_by_rater(session: Session, queue: str = "") -> dict[str, int]:
    """Counts the skips of every rater who skipped."""
    rows = (
        select(Submission.rater_id, func.count())
        .join(Submission.task)
        .where(Submission.kind == "skip")
        .group_by(Submission.rater_id)
    )
    if queue:
        rows = rows.where(Task.queue_name == queue)
    return dict(session.execute(rows).tuples().all())
