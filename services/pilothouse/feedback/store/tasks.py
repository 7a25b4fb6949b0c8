"""Tasks: adding, listing and ordering them. Every function runs inside the caller's transaction."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3
from sqlalchemy import select, update
from sqlalchemy.orm import Session, selectinload

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.records import MAX_ANSWERS, MIN_ANSWERS, AnswerRecord, PromptRecord
from pilothouse.feedback.store.queues import get_queue
from pilothouse.feedback.store.reading import answer_record, prompt_record
from pilothouse.feedback.tables import UNFINISHED, Answer, Kind, Prompt, Task, TaskState

Value = TypeVar("Value")

_AT_ONCE = 500


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
    stored = _vetoes(session, sorted(prompts))
    new = {
        task.id: task
        for task in tasks
        if task.id not in existing and not stored.get(prompt_id(task.prompt), False)
    }
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
    if numbers:
        session.execute(
            update(Task), [{"number": number, "priority": priorities[id]} for id, number in numbers.items()]
        )
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
            Task.state.in_(UNFINISHED),
            Task.id > after,
        )
        .order_by(Task.id)
        .limit(limit)
        .options(selectinload(Task.answers), selectinload(Task.prompt))
    )
    return [_task_record(row) for row in rows]


def known(session: Session, column: object, values: Sequence[str]) -> set[str]:
    """Returns which of the values a column holds."""
    found: set[str] = set()
    for part in parts(values):
        found.update(session.scalars(select(column).where(column.in_(part))))  # type: ignore[attr-defined, call-overload]
    return found


def parts(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Yields the values, some hundred at a time: drivers bound how many a statement takes."""
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _vetoes(session: Session, prompts: Sequence[str]) -> dict[str, bool]:
    """Returns whether prompts are vetoed, by the ids of those that are stored; a veto waits from here on."""
    found: dict[str, bool] = {}
    for part in parts(prompts):
        rows = session.execute(
            select(Prompt.id, Prompt.vetoed)
            .where(Prompt.id.in_(part))
            .order_by(Prompt.id)
            .with_for_update(read=True, key_share=True)
        )
        found.update(rows.tuples().all())
    return found


def _check_kind(task: TaskRecord, kind: Kind) -> None:
    if kind is Kind.DEMONSTRATION and task.answers:
        raise InvalidRequestError(
            f"task {task.id} has answers, but its queue asks for demonstrations; leave them out"
        )
    if kind is Kind.RANKING and not MIN_ANSWERS <= len(task.answers) <= MAX_ANSWERS:
        raise InvalidRequestError(
            f"task {task.id} has {len(task.answers)} answers to rank; give {MIN_ANSWERS} to {MAX_ANSWERS}"
        )


def _numbers(session: Session, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts(ids):
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
    return TaskRecord(
        id=row.id,
        prompt=prompt_record(row.prompt),
        answers=tuple(answer_record(answer) for answer in row.answers),
        answer_ids=tuple(answer.id for answer in row.answers),
        priority=row.priority,
        gold_ranks=tuple(row.gold_ranks),
    )
