"""Turns rows into the records of `pilothouse.feedback.records`, for the measures and the exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from pilothouse.feedback.records import (
    AnswerRecord,
    DemonstrationRecord,
    PromptRecord,
    RankingRecord,
    Source,
)
from pilothouse.feedback.tables import Answer, Assignment, Demonstration, Prompt, Rater, Submission, Task

_ROWS_AT_ONCE = 2000


def rankings(session: Session, *, queue: str = "") -> Iterator[RankingRecord]:
    """Yields the rankings that count, by id. Those of vetoed prompts are left out.

    Columns are read, not objects, and each task once: a session that keeps track of every row takes six
    times as long.

    Args:
        session: Open transaction.
        queue: Name of a queue; empty for all.
    """
    tasks = _tasks(session, queue)
    rows = (
        select(
            Submission.id,
            Submission.task_number,
            Submission.ranks,
            Submission.unsafe,
            Submission.comment,
            Submission.seconds,
            Submission.created_at,
            Rater.pseudonym,
            Assignment.order,
        )
        .join(Rater, Submission.rater_id == Rater.id)
        .join(Assignment, Submission.assignment_id == Assignment.id)
        .where(Submission.kind == "ranking", Submission.counts)
        .order_by(Submission.id)
    )
    for id, number, ranks, unsafe, comment, seconds, at, rater, order in _stream(session, rows):
        if number not in tasks:
            continue  # of another queue, or of a vetoed prompt
        task = tasks[number]
        yield RankingRecord(
            id=id,
            task=task.id,
            queue=task.queue,
            prompt=task.prompt,
            answers=task.answers,
            ranks=tuple(ranks),
            order=tuple(order),
            rater=rater,
            submitted_at=at,
            unsafe=tuple(unsafe),
            gold_ranks=task.gold_ranks,
            comment=comment,
            seconds=seconds,
        )


def demonstrations(session: Session, *, queue: str = "") -> Iterator[DemonstrationRecord]:
    """Yields what people wrote, as `rankings`; what was mended in gold tasks is left out."""
    rows = (
        select(Demonstration, Answer)
        .join(Demonstration.submission)
        .join(Submission.task)
        .join(Task.prompt)
        .outerjoin(Answer, Demonstration.corrects == Answer.id)
        .where(Submission.counts, Prompt.vetoed.is_(False), Task.is_gold.is_(False))
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
        yield DemonstrationRecord(
            id=row.id,
            task=submission.task.id,
            queue=submission.task.queue_name,
            prompt=prompt_record(submission.task.prompt),
            text=row.text,
            corrects=answer_record(corrected) if corrected is not None else None,
            rater=submission.rater.pseudonym,
            submitted_at=submission.created_at,
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
    return _answer(
        row.id,
        row.text,
        row.model,
        row.run,
        row.version,
        row.temperature,
        row.seed,
        row.vetoed,
        row.flagged,
    )


@dataclass(frozen=True, slots=True)
class _Task:
    """What the rankings of a task have in common."""

    id: str
    queue: str
    prompt: PromptRecord
    answers: tuple[AnswerRecord, ...]
    gold_ranks: tuple[int, ...]


def _tasks(session: Session, queue: str) -> dict[int, _Task]:
    """Returns the tasks of a queue, or of all, whose prompts are not vetoed, by number."""
    prompts = {
        row.id: prompt_record(row) for row in session.scalars(select(Prompt).where(Prompt.vetoed.is_(False)))
    }
    columns = (
        Answer.task_number,
        Answer.id,
        Answer.text,
        Answer.model,
        Answer.run,
        Answer.version,
        Answer.temperature,
        Answer.seed,
        Answer.vetoed,
        Answer.flagged,
    )
    answers: dict[int, list[AnswerRecord]] = {}
    for number, *fields in _stream(session, select(*columns).order_by(Answer.task_number, Answer.position)):
        answers.setdefault(number, []).append(_answer(*fields))
    rows = select(Task.number, Task.id, Task.queue_name, Task.prompt_id, Task.gold_ranks)
    if queue:
        rows = rows.where(Task.queue_name == queue)
    return {
        number: _Task(id, name, prompts[prompt], tuple(answers.get(number, ())), tuple(gold))
        for number, id, name, prompt, gold in _stream(session, rows)
        if prompt in prompts
    }


def _answer(
    id: str,
    text: str,
    model: str,
    run: str,
    version: int,
    temperature: float,
    seed: int,
    vetoed: bool,
    flagged: bool,
) -> AnswerRecord:
    source = Source(model=model, run=run, version=version, temperature=temperature, seed=seed)
    return AnswerRecord(id=id, text=text, source=source, vetoed=vetoed, flagged=flagged)


def _stream(session: Session, rows: Select[*tuple[Any, ...]]) -> Iterator[Any]:
    yield from session.execute(rows.execution_options(yield_per=_ROWS_AT_ONCE))
