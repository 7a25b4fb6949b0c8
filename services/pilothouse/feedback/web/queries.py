"""What only the pages ask of the database. Every function runs inside the caller's transaction."""

from dataclasses import dataclass

from sqlalchemy import Exists, exists, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from pilothouse.errors import NotFoundError
from pilothouse.feedback.store import people, progress
from pilothouse.feedback.store.queues import get_queue
from pilothouse.feedback.tables import (
    UNFINISHED,
    Assignment,
    AssignmentState,
    Demonstration,
    Event,
    Kind,
    Queue,
    Rater,
    Submission,
    Task,
    TaskState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQueue:
    """A queue as a rater sees it."""

    name: str
    kind: Kind
    instructions: str
    left: int
    """Tasks that this rater may claim now, or holds; gold ones not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a rater can do, and has done."""

    queues: list[OpenQueue]
    own: progress.OwnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Why a queue gives a rater no task, in words for the rater."""

    title: str
    text: str
    done: bool = False
    """Whether the rater has had every task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A text by a rater."""

    text: str
    position: int | None
    """Of the answer that it corrects; None for an answer of the rater's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one rater said of a task, for admins."""

    pseudonym: str
    kind: str
    ranks: tuple[int, ...]
    unsafe: tuple[int, ...]
    skip_reason: str
    comment: str
    written: tuple[Written, ...]
    seconds: float
    counts: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """A line of the audit log, with names instead of ids."""

    at: float
    actor: str
    action: str
    target: str
    detail: str


def work_of(session: Session, rater: str, *, since: float) -> Work:
    """Returns the queues that are not paused, by name, and what the rater did since ``since`` and ever."""
    held = exists().where(
        Assignment.task_number == Task.number,
        Assignment.rater_id == rater,
        Assignment.state == AssignmentState.LEASED,
    )
    counts = (
        select(Task.queue_name, func.count())
        .where(Task.is_gold.is_(False), (Task.state == TaskState.OPEN) | held, ~_had(rater))
        .group_by(Task.queue_name)
    )
    left = dict(session.execute(counts).tuples().all())
    queues = [
        OpenQueue(
            name=queue.name,
            kind=Kind(queue.kind),
            instructions=queue.instructions,
            left=left.get(queue.name, 0),
        )
        for queue in session.scalars(select(Queue).where(Queue.paused.is_(False)).order_by(Queue.name))
    ]
    return Work(queues=queues, own=progress.own_progress(session, rater, since=since))


def kind_of(session: Session, queue: str) -> Kind:
    """Returns what a queue asks for.

    Raises:
        NotFoundError: There is no such queue. It names no other: raters need not know of every queue.
    """
    found = session.get(Queue, queue)
    if found is None:
        raise NotFoundError("There is no queue of this name.")
    return Kind(found.kind)


def why_nothing(session: Session, queue: str, rater: str) -> Nothing:
    """Returns why a queue has just given the rater no task.

    Raises:
        NotFoundError: There is no such queue.
    """
    if get_queue(session, queue).paused:
        return Nothing(title="Paused", text="This queue hands out no tasks at present. Come back later.")
    ordinary = (Task.queue_name == queue, Task.is_gold.is_(False), Task.state != TaskState.WITHDRAWN)
    if not session.scalar(select(exists().where(*ordinary))):
        return Nothing(title="No tasks yet", text="Nobody has put tasks into this queue. Come back later.")
    unfinished = Task.state.in_(UNFINISHED)
    if session.scalar(select(exists().where(*ordinary, unfinished, ~_had(rater)))):
        return Nothing(
            title="Nothing free right now",
            text="Others are working on the last tasks. Come back later: one may become free again.",
        )
    return Nothing(title="All done", text="Nothing is left for you in this queue. Thank you!", done=True)


def task_with_opinions(session: Session, task: str) -> tuple[Task, list[Opinion]]:
    """Returns a task with its answers, and what was said of it, the oldest first.

    Raises:
        NotFoundError: There is no such task.
    """
    found = session.scalar(
        select(Task)
        .where(Task.id == task)
        .options(joinedload(Task.prompt), joinedload(Task.queue), selectinload(Task.answers))
    )
    if found is None:
        raise NotFoundError(f"there is no task '{task}'; the queue's page lists them")
    rows = session.scalars(
        select(Submission)
        .where(Submission.task_number == found.number)
        .order_by(Submission.created_at)
        .options(joinedload(Submission.rater))
    )
    written = _written(session, found)
    return found, [_opinion(row, written.get(row.id, ())) for row in rows]


def tasks_of(session: Session, queue: str, *, after: int, limit: int) -> list[Task]:
    """Returns tasks of a queue behind a number, with prompts and answers, in the order in which they came.

    Raises:
        NotFoundError: There is no such queue.
    """
    get_queue(session, queue)
    return list(
        session.scalars(
            select(Task)
            .where(Task.queue_name == queue, Task.number > after)
            .order_by(Task.number)
            .limit(limit)
            .options(joinedload(Task.prompt), selectinload(Task.answers))
        )
    )


def latest_events(session: Session, limit: int) -> list[LoggedEvent]:
    """Returns the newest lines of the audit log first; raters by their names."""
    rows = session.scalars(select(Event).order_by(Event.number.desc()).limit(limit)).all()
    ids = {row.actor for row in rows} | {row.target for row in rows}
    names = {
        rater.id: rater.name or rater.pseudonym
        for rater in session.scalars(select(Rater).where(Rater.id.in_(ids)))
    }
    return [
        LoggedEvent(
            at=row.at,
            actor=names.get(row.actor, row.actor) or "operator",
            action=row.action,
            target=names.get(row.target, row.target),
            detail=row.detail,
        )
        for row in rows
    ]


def crew(session: Session) -> tuple[list[people.Person], dict[str, int], dict[str, int]]:
    """Returns all raters, and by id how many answers of each count, and how many tasks each skipped."""
    rows = (
        select(Submission.rater_id, func.count())
        .where(Submission.counts, Submission.kind != "skip")
        .group_by(Submission.rater_id)
    )
    answers = dict(session.execute(rows).tuples().all())
    return people.list_people(session), answers, progress.skips_by_rater(session)


def _had(rater: str) -> Exists:
    """Returns the SQL of whether the rater has answered or skipped a task."""
    return exists().where(
        Assignment.task_number == Task.number,
        Assignment.rater_id == rater,
        Assignment.state.in_((AssignmentState.ANSWERED, AssignmentState.SKIPPED)),
    )


def _written(session: Session, task: Task) -> dict[str, tuple[Written, ...]]:
    """Returns what raters wrote, by submission; corrections in the order of the answers."""
    positions = {answer.id: answer.position for answer in task.answers}
    rows = session.scalars(
        select(Demonstration).join(Demonstration.submission).where(Submission.task_number == task.number)
    )
    found: dict[str, list[Written]] = {}
    for row in rows:
        position = None if row.corrects is None else positions[row.corrects]
        found.setdefault(row.submission_id, []).append(Written(text=row.text, position=position))
    return {
        submission: tuple(sorted(texts, key=lambda each: each.position or 0))
        for submission, texts in found.items()
    }


def _opinion(row: Submission, written: tuple[Written, ...]) -> Opinion:
    return Opinion(
        pseudonym=row.rater.pseudonym,
        kind=row.kind,
        ranks=tuple(row.ranks),
        unsafe=tuple(row.unsafe),
        skip_reason=row.skip_reason,
        comment=row.comment,
        written=written,
        seconds=row.seconds,
        counts=row.counts,
        at=row.created_at,
    )
