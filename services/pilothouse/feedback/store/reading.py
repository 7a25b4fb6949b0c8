"""Turns rows into the records of `pilothouse.feedback.records`, for the measures and the exports."""

from collections.abc import Iterator, Mapping

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from pilothouse.feedback.records import (
    AnswerRecord,
    DemonstrationRecord,
    PromptRecord,
    RankingRecord,
    Source,
)
from pilothouse.feedback.tables import Answer, Demonstration, Prompt, Submission, Task

_ROWS_AT_ONCE = 2000


def rankings(
    session: Session, *, queue: str = "", weights: Mapping[str, float] | None = None
) -> Iterator[RankingRecord]:
    """Yields the rankings that count, by id. Those of vetoed prompts are left out.

    Args:
        session: Open transaction.
        queue: Name of a queue; empty for all.
        weights: Pseudonym → weight; 1 for whoever is not in it.
    """
    rows = (
        select(Submission)
        .join(Submission.task)
        .join(Task.prompt)
        .where(Submission.kind == "ranking", Submission.counts, Prompt.vetoed.is_(False))
        .order_by(Submission.id)
        .options(
            joinedload(Submission.rater),
            joinedload(Submission.assignment),
            joinedload(Submission.task).joinedload(Task.prompt),
            joinedload(Submission.task).selectinload(Task.answers),
        )
    )
    for row in _stream(session, rows, queue):
        pseudonym = row.rater.pseudonym
        yield RankingRecord(
            id=row.id,
            task=row.task.id,
            queue=row.task.queue_name,
            prompt=prompt_record(row.task.prompt),
            answers=tuple(answer_record(answer) for answer in row.task.answers),
            ranks=tuple(row.ranks),
            order=tuple(row.assignment.order),
            rater=pseudonym,
            submitted_at=row.created_at,
            unsafe=tuple(row.unsafe),
            gold_ranks=tuple(row.task.gold_ranks),
            comment=row.comment,
            seconds=row.seconds,
            weight=(weights or {}).get(pseudonym, 1.0),
        )


def demonstrations(
    session: Session, *, queue: str = "", weights: Mapping[str, float] | None = None
) -> Iterator[DemonstrationRecord]:
    """Yields what people wrote, as `rankings`."""
    rows = (
        select(Demonstration, Answer)
        .join(Demonstration.submission)
        .join(Submission.task)
        .join(Task.prompt)
        .outerjoin(Answer, Demonstration.corrects == Answer.id)
        .where(Submission.counts, Prompt.vetoed.is_(False))
        .order_by(Demonstration.id)
        .options(
            joinedload(Demonstration.submission).joinedload(Submission.rater),
            joinedload(Demonstration.submission).joinedload(Submission.task).joinedload(Task.prompt),
        )
    )
    if queue:
        rows = rows.where(Task.queue_name == queue)
    for row, corrected in session.execute(rows.execution_options(yield_per=_ROWS_AT_ONCE)):
        submission = row.submission
        pseudonym = submission.rater.pseudonym
        yield DemonstrationRecord(
            id=row.id,
            task=submission.task.id,
            queue=submission.task.queue_name,
            prompt=prompt_record(submission.task.prompt),
            text=row.text,
            corrects=answer_record(corrected) if corrected is not None else None,
            rater=pseudonym,
            submitted_at=submission.created_at,
            weight=(weights or {}).get(pseudonym, 1.0),
        )


def prompt_record(row: Prompt) -> PromptRecord:
    """Returns a prompt as a plain value."""
    return PromptRecord(
        text=row.text,
        messages=tuple((message["role"], message["content"]) for message in row.messages),
        source=row.source,
        flagged=row.flagged,
    )


def answer_record(row: Answer) -> AnswerRecord:
    """Returns an answer as a plain value."""
    return AnswerRecord(
        text=row.text,
        source=Source(
            model=row.model, run=row.run, version=row.version, temperature=row.temperature, seed=row.seed
        ),
        vetoed=row.vetoed,
        flagged=row.flagged,
    )


def _stream(session: Session, rows: Select[Submission], queue: str) -> Iterator[Submission]:
    if queue:
        rows = rows.where(Task.queue_name == queue)
    yield from session.scalars(rows.execution_options(yield_per=_ROWS_AT_ONCE))
