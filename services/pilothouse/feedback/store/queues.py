"""Queues: rules, counts, a task's state. Every function runs inside the caller's transaction."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session

from pilothouse.errors import InvalidRequestError, NotFoundError
from pilothouse.feedback.tables import (
    UNFINISHED,
    Assignment,
    AssignmentState,
    Kind,
    Queue,
    Submission,
    Task,
    TaskState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Rules of a queue."""

    name: str
    kind: Kind
    instructions: str = ""
    overlap: int = 1
    """How many raters shall answer each task."""
    lease_seconds: int = 0
    """0 takes the service's default."""
    gold_every: int = 0
    """One gold task among so many tasks of a rater, on average; 0 for none."""
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """A queue and what is in it."""

    settings: QueueSettings
    open_tasks: int
    """Not answered as often as they should be; gold ones not counted."""
    done_tasks: int
    gold_tasks: int
    leased: int
    submissions: int
    """Rankings and demonstrations that count."""
    skips: int


def put_queue(session: Session, settings: QueueSettings, *, now: float) -> None:
    """Creates a queue or changes its settings; a larger overlap opens its tasks again.

    Raises:
        InvalidRequestError: The queue exists with another kind.
    """
    queue = session.get(Queue, settings.name, with_for_update=True)
    if queue is None:
        queue = Queue(name=settings.name, kind=settings.kind, created_at=now)
        session.add(queue)
    elif queue.kind != settings.kind:
        raise InvalidRequestError(
            f"queue {settings.name} exists with kind {queue.kind}; choose another name for a new queue"
        )
    queue.instructions, queue.paused = settings.instructions, settings.paused
    queue.overlap, queue.lease_seconds = settings.overlap, settings.lease_seconds
    queue.gold_every = settings.gold_every
    session.flush()
    session.execute(
        update(Task).where(Task.queue_name == settings.name).values(state=_state_by_counts(settings.overlap))
    )


def refresh_queues(session: Session, tasks: Iterable[Task]) -> None:
    """Reads the queues of locked tasks anew: who changes one sets the states of all its tasks afterwards."""
    for queue in {task.queue for task in tasks}:
        session.refresh(queue)


def state_of(task: Task) -> TaskState:
    """Returns the state that follows from a task's counts."""
    if task.state == TaskState.WITHDRAWN:
        return TaskState.WITHDRAWN
    if has_place(task):
        return TaskState.OPEN
    return TaskState.DONE if task.answered >= task.queue.overlap else TaskState.FULL


def has_place(task: Task) -> bool:
    """Returns whether one more lease or answer stays within the overlap, also of a withdrawn task."""
    return task.is_gold or task.taken < task.queue.overlap


def get_queue(session: Session, name: str) -> Queue:
    """Returns a queue.

    Raises:
        NotFoundError: There is none of this name.
    """
    queue = session.get(Queue, name)
    if queue is None:
        known = ", ".join(session.scalars(select(Queue.name).order_by(Queue.name).limit(10))) or "none"
        raise NotFoundError(
            f"there is no queue '{name}'; queues: {known}; `pilothouse feedback queue` or PutQueue makes one"
        )
    return queue


def check_queue(session: Session, name: str) -> None:
    """Makes sure that there is a queue of this name; empty stands for all queues.

    Raises:
        NotFoundError: There is none.
    """
    if name:
        get_queue(session, name)


def list_queues(session: Session, *, now: float) -> list[QueueCounts]:
    """Returns all queues with their counts, by name."""
    tasks: dict[tuple[str, bool, str], int] = {
        (name, gold, state): count
        for name, gold, state, count in session.execute(
            select(Task.queue_name, Task.is_gold, Task.state, func.count()).group_by(
                Task.queue_name, Task.is_gold, Task.state
            )
        )
    }
    leases = dict(
        session.execute(
            select(Task.queue_name, func.count())
            .join(Assignment, Assignment.task_number == Task.number)
            .where(Assignment.state == AssignmentState.LEASED, Assignment.lease_expires_at > now)
            .group_by(Task.queue_name)
        )
        .tuples()
        .all()
    )
    said: Counter[tuple[str, bool]] = Counter()
    for name, kind, count in session.execute(
        select(Task.queue_name, Submission.kind, func.count())
        .join(Task, Submission.task_number == Task.number)
        .where(Submission.counts)
        .group_by(Task.queue_name, Submission.kind)
    ):
        said[name, kind == "skip"] += count

    def counted(name: str, gold: bool, *states: TaskState) -> int:
        return sum(tasks.get((name, gold, state), 0) for state in states)

    return [
        QueueCounts(
            settings=settings_of(queue),
            open_tasks=counted(queue.name, False, *UNFINISHED),
            done_tasks=counted(queue.name, False, TaskState.DONE),
            gold_tasks=counted(queue.name, True, *TaskState),
            leased=leases.get(queue.name, 0),
            submissions=said[queue.name, False],
            skips=said[queue.name, True],
        )
        for queue in session.scalars(select(Queue).order_by(Queue.name))
    ]


def settings_of(queue: Queue) -> QueueSettings:
    """Returns a queue's rules."""
    return QueueSettings(
        name=queue.name,
        kind=Kind(queue.kind),
        instructions=queue.instructions,
        overlap=queue.overlap,
        lease_seconds=queue.lease_seconds,
        gold_every=queue.gold_every,
        paused=queue.paused,
    )


def _state_by_counts(overlap: int) -> ColumnElement[str]:
    """Returns the SQL of `state_of`, for queues with this overlap."""
    return case(
        (Task.state == TaskState.WITHDRAWN, TaskState.WITHDRAWN.value),
        (Task.is_gold, TaskState.OPEN.value),
        (Task.answered >= overlap, TaskState.DONE.value),
        (Task.taken >= overlap, TaskState.FULL.value),
        else_=TaskState.OPEN.value,
    )
