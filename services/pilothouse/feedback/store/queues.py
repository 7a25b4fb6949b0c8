"""Queues and their tasks. Every function runs inside the caller's transaction."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3
from sqlalchemy import ColumnElement, case, func, select, update
from sqlalchemy.orm import Session, selectinload

from pilothouse.errors import InvalidRequestError, NotFoundError
from pilothouse.feedback.records import AnswerRecord, PromptRecord
from pilothouse.feedback.tables import (
    Answer,
    Assignment,
    AssignmentState,
    Kind,
    Prompt,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task as it is added or listed."""

    id: str
    prompt: PromptRecord
    answers: tuple[AnswerRecord, ...] = ()
    answer_ids: tuple[str, ...] = ()
    """Given by the service; empty when adding."""
    priority: float = 0.0
    gold_ranks: tuple[int, ...] = ()


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
        update(Task)
        .where(Task.queue_name == settings.name, Task.state != TaskState.WITHDRAWN)
        .values(state=state_by_counts(settings.overlap))
    )


def state_by_counts(overlap: int) -> ColumnElement[str]:
    """Returns the SQL of the state that follows from a task's counts."""
    return case(
        (Task.is_gold, TaskState.OPEN.value),
        (Task.answered >= overlap, TaskState.DONE.value),
        (Task.taken >= overlap, TaskState.FULL.value),
        else_=TaskState.OPEN.value,
    )


def get_queue(session: Session, name: str) -> Queue:
    """Returns a queue.

    Raises:
        NotFoundError: There is none of this name.
    """
    queue = session.get(Queue, name)
    if queue is None:
        known = ", ".join(session.scalars(select(Queue.name).order_by(Queue.name).limit(10))) or "none"
        raise NotFoundError(f"there is no queue '{name}'; queues: {known}; PutQueue makes one")
    return queue


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
            open_tasks=counted(queue.name, False, TaskState.OPEN, TaskState.FULL),
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


def add_tasks(session: Session, queue_name: str, tasks: Sequence[TaskRecord], *, now: float) -> int:
    """Adds the tasks whose id is new and whose prompt is not vetoed; returns how many those were.

    Raises:
        NotFoundError: There is no such queue.
        InvalidRequestError: A task is not what the queue's kind asks for.
    """
    queue = get_queue(session, queue_name)
    for task in tasks:
        _check_kind(task, Kind(queue.kind))
    existing = known(session, Task.id, [task.id for task in tasks])
    prompts = {prompt_id(task.prompt): task.prompt for task in tasks}
    vetoed = known(session, Prompt.id, list(prompts), Prompt.vetoed)
    new = {
        task.id: task for task in tasks if task.id not in existing and prompt_id(task.prompt) not in vetoed
    }
    stored = known(session, Prompt.id, list(prompts))
    wanted = {prompt_id(task.prompt) for task in new.values()}
    session.add_all(
        Prompt(
            id=key,
            text=prompt.text,
            messages=[{"role": role, "content": content} for role, content in prompt.messages],
            source=prompt.source,
        )
        for key, prompt in prompts.items()
        if key in wanted and key not in stored
    )
    session.flush()
    session.add_all(_task_row(queue_name, task, now) for task in new.values())
    session.flush()
    return len(new)


def prompt_id(prompt: PromptRecord) -> str:
    """Returns the digest of what is asked: the same prompt of two sources is one."""
    digest = blake3(prompt.text.encode())
    for role, content in prompt.messages:
        for part in (role.encode(), content.encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest(length=16)


def set_priorities(session: Session, priorities: Mapping[str, float]) -> int:
    """Sets the priority of the tasks that exist; returns how many those were."""
    numbers = _numbers(session, list(priorities))
    session.execute(
        update(Task), [{"number": number, "priority": priorities[id]} for id, number in numbers.items()]
    ) if numbers else None
    return len(numbers)


def list_open_tasks(session: Session, queue_name: str, *, limit: int, after: str) -> list[TaskRecord]:
    """Returns tasks that are not done, gold ones left out, by id, behind the id ``after``.

    Raises:
        NotFoundError: There is no such queue.
    """
    get_queue(session, queue_name)
    rows = session.scalars(
        select(Task)
        .where(
            Task.queue_name == queue_name,
            Task.is_gold.is_(False),
            Task.state.in_((TaskState.OPEN, TaskState.FULL)),
            Task.id > after,
        )
        .order_by(Task.id)
        .limit(limit)
        .options(selectinload(Task.answers), selectinload(Task.prompt))
    )
    return [_task_record(row) for row in rows]


def _check_kind(task: TaskRecord, kind: Kind) -> None:
    if kind is Kind.DEMONSTRATION and task.answers:
        raise InvalidRequestError(
            f"task {task.id} has answers, but its queue asks for demonstrations; leave them out"
        )
    if kind is Kind.RANKING and not 2 <= len(task.answers) <= 9:
        raise InvalidRequestError(f"task {task.id} has {len(task.answers)} answers to rank; give 2 to 9")


def state_of(task: Task) -> TaskState:
    """Returns the state that follows from a task's counts."""
    if task.state == TaskState.WITHDRAWN:
        return TaskState.WITHDRAWN
    if task.is_gold or task.taken < task.queue.overlap:
        return TaskState.OPEN
    return TaskState.DONE if task.answered >= task.queue.overlap else TaskState.FULL


def known(session: Session, column: object, values: Sequence[str], *conditions: object) -> set[str]:
    """Returns which of the values a column holds, some hundred a query: drivers bound their number."""
    found: set[str] = set()
    for start in range(0, len(values), 500):
        part = values[start : start + 500]
        found.update(session.scalars(select(column).where(column.in_(part), *conditions)))  # type: ignore[attr-defined, call-overload]
    return found


def _numbers(session: Session, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        found.update(session.execute(select(Task.id, Task.number).where(Task.id.in_(part))).tuples().all())
    return found


def _task_row(queue_name: str, task: TaskRecord, now: float) -> Task:
    return Task(
        id=task.id,
        queue_name=queue_name,
        prompt_id=prompt_id(task.prompt),
        state=TaskState.OPEN,
        priority=task.priority,
        gold_ranks=list(task.gold_ranks),
        is_gold=bool(task.gold_ranks),
        created_at=now,
        answers=[
            Answer(
                id=secrets.token_hex(8),
                position=position,
                text=answer.text,
                model=answer.source.model,
                run=answer.source.run,
                version=answer.source.version,
                temperature=answer.source.temperature,
                seed=answer.source.seed,
            )
            for position, answer in enumerate(task.answers)
        ],
    )


def _task_record(row: Task) -> TaskRecord:
    from pilothouse.feedback.store.reading import answer_record, prompt_record

    return TaskRecord(
        id=row.id,
        prompt=prompt_record(row.prompt),
        answers=tuple(answer_record(answer) for answer in row.answers),
        answer_ids=tuple(answer.id for answer in row.answers),
        priority=row.priority,
        gold_ranks=tuple(row.gold_ranks),
    )
