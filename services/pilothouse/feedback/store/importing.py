"""Rankings that come from elsewhere: tasks, raters and submissions, in the caller's transaction."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.formats.imported import ImportedRanking
from pilothouse.feedback.store.people import add_rater
from pilothouse.feedback.store.queues import get_queue, state_of
from pilothouse.feedback.store.tasks import TaskRecord, add_tasks, known, parts
from pilothouse.feedback.tables import Assignment, AssignmentState, Kind, Rater, Submission, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What an import added."""

    tasks: int
    rankings: int
    known: int
    """Rankings that were there already."""


def add_rankings(
    session: Session, queue_name: str, rankings: Sequence[ImportedRanking], *, now: float
) -> Added:
    """Adds rankings, with their tasks and raters where those are new. Imported twice, they are there once.

    A rater of a file becomes a rater without a password, named after the file's; the overlap does not bound
    what was ranked elsewhere.

    Raises:
        NotFoundError: There is no such queue.
        InvalidRequestError: The queue does not ask for rankings.
    """
    queue = get_queue(session, queue_name)
    if queue.kind != Kind.RANKING:
        raise InvalidRequestError(
            f"queue {queue_name} asks for {queue.kind}s; import into a queue of rankings"
        )
    tasks = {ranking.task: ranking for ranking in rankings}
    records = [TaskRecord(id=task, prompt=of.prompt, answers=of.answers) for task, of in tasks.items()]
    added = sum(add_tasks(session, queue_name, part, now=now) for part in parts(records))
    ranked = [ranking for ranking in rankings if ranking.ranks]
    stored = known(session, Submission.id, [ranking.id for ranking in ranked])
    rows = {task.id: task for task in _tasks(session, list(tasks))}
    raters = {name: _rater(session, name, now) for name in sorted({ranking.rater for ranking in ranked})}
    new = {
        ranking.id: ranking for ranking in ranked if ranking.id not in stored and ranking.task in rows
    }  # a task whose prompt is vetoed was not added
    for ranking in new.values():
        _answer(session, rows[ranking.task], raters[ranking.rater], ranking, now)
    session.flush()
    return Added(tasks=added, rankings=len(new), known=len(ranked) - len(new))


def _tasks(session: Session, ids: Sequence[str]) -> list[Task]:
    found: list[Task] = []
    for part in parts(ids):
        found += session.scalars(select(Task).where(Task.id.in_(part)).with_for_update(key_share=True))
    return found


def _rater(session: Session, name: str, now: float) -> str:
    full = f"{name} (imported)"
    found = session.scalar(select(Rater.id).where(Rater.name == full))
    return found or add_rater(session, name=full, now=now)


def _answer(session: Session, task: Task, rater: str, ranking: ImportedRanking, now: float) -> None:
    held = Assignment(
        id=secrets.token_hex(16),
        task_number=task.number,
        rater_id=rater,
        order=list(range(len(ranking.ranks))),
        state=AssignmentState.ANSWERED,
        lease_expires_at=now,
        claimed_at=now,
    )
    session.add(held)
    session.add(
        Submission(
            id=ranking.id,
            digest=ranking.id,
            assignment_id=held.id,
            task_number=task.number,
            rater_id=rater,
            kind="ranking",
            ranks=list(ranking.ranks),
            unsafe=[],
            skip_reason="",
            comment="",
            seconds=0.0,
            counts=True,
            created_at=ranking.submitted_at or now,
        )
    )
    task.taken += 1
    task.answered += 1
    task.state = state_of(task)
