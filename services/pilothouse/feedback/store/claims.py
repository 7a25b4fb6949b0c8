"""Who gets which task: leases, exact overlap, gold tasks in between.

A place of a task is taken while its row is locked (PostgreSQL) or inside the one writer's transaction
(SQLite), so that leases and answers together never exceed the overlap, however many claim at once. What a
rater does, and what is done to a rater, holds the rater's row first: then the assignments, then the tasks.
Every function runs inside the caller's transaction.
"""

import random
import secrets
from dataclasses import dataclass

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from pilothouse.errors import (
    AssignmentClosedError,
    LeaseLostError,
    NoTaskError,
    NotFoundError,
)
from pilothouse.feedback.records import PromptRecord
from pilothouse.feedback.store.queues import get_queue, refresh_queues, state_of
from pilothouse.feedback.store.raters import active_rater
from pilothouse.feedback.store.reading import prompt_record
from pilothouse.feedback.tables import (
    Assignment,
    AssignmentState,
    Kind,
    Queue,
    Task,
    TaskState,
)

_BACK = (AssignmentState.RELEASED, AssignmentState.EXPIRED)
"""States after which the same rater may have the task again."""
_EXPIRED_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAnswer:
    """An answer as a rater sees it: no source."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task in a rater's hands."""

    id: str
    """Of the assignment."""
    task: str
    queue: str
    kind: Kind
    instructions: str
    prompt: PromptRecord
    answers: tuple[ShownAnswer, ...]
    """In this rater's own order."""
    lease_expires_at: float


def claim(session: Session, *, queue: str, rater: str, lease_seconds: int, now: float) -> Held:
    """Gives the rater the task that it holds already in this queue, else the next one.

    Args:
        session: Open transaction.
        queue: Name of the queue.
        rater: Rater's id.
        lease_seconds: Of a queue that has no lease of its own.
        now: Present time.

    Raises:
        NotFoundError: There is no such queue or rater.
        RaterBarredError: The rater may not work.
        NoTaskError: Nothing is left for this rater.
    """
    rules = get_queue(session, queue)
    active_rater(session, rater)
    lease_ends = now + (rules.lease_seconds or lease_seconds)
    expire(session, queue=queue, now=now)
    held = session.scalar(
        _assignments(queue, rater)
        .where(Assignment.state == AssignmentState.LEASED)
        .with_for_update(key_share=True, of=Assignment)
    )
    if held is None:
        if rules.paused:
            raise NoTaskError(f"queue '{queue}' is paused; come back later")
        held = _take(session, rules, rater, lease_ends, now)
    held.lease_expires_at = lease_ends
    session.flush()
    return held_record(held)


def renew(session: Session, *, assignment: str, rater: str, lease_seconds: int, now: float) -> float:
    """Extends a lease, or takes the place again if it is still free; returns when the lease ends.

    Raises:
        NotFoundError: There is no such rater, or the rater has no such assignment.
        RaterBarredError: The rater may not work.
        AssignmentClosedError: It is answered or skipped.
        LeaseLostError: Another rater has the place.
    """
    active_rater(session, rater)
    held = own_assignment(session, assignment, rater)
    secure(session, held)
    held.lease_expires_at = now + (held.task.queue.lease_seconds or lease_seconds)
    return held.lease_expires_at


def release(session: Session, *, assignment: str, rater: str) -> None:
    """Gives a task back unanswered; giving back twice is no error.

    Raises:
        NotFoundError: The rater has no such assignment.
    """
    held = own_assignment(session, assignment, rater)
    if held.state == AssignmentState.LEASED:
        _give_back(session, held)


def release_all(session: Session, rater: str) -> None:
    """Gives everything back that a rater holds; the rater's row is locked."""
    for held in session.scalars(
        select(Assignment)
        .where(Assignment.rater_id == rater, Assignment.state == AssignmentState.LEASED)
        .order_by(Assignment.task_number)
        .with_for_update(key_share=True, of=Assignment)
        .execution_options(populate_existing=True)
    ).all():
        _give_back(session, held)


def own_assignment(session: Session, assignment: str, rater: str) -> Assignment:
    """Returns an assignment of the rater; its row is locked.

    Raises:
        NotFoundError: There is none, or it is another rater's: which of the two is nobody's business.
    """
    found = session.scalar(
        select(Assignment)
        .where(Assignment.id == assignment, Assignment.rater_id == rater)
        .with_for_update(key_share=True, of=Assignment)
    )
    if found is None:
        raise NotFoundError(f"you have no assignment '{assignment}'; claim a task first")
    return found


def secure(session: Session, held: Assignment) -> None:
    """Makes sure that the assignment has its place: an expired one takes it again if it is free.

    Raises:
        AssignmentClosedError: It is answered or skipped.
        LeaseLostError: Another rater has the place.
    """
    if held.state == AssignmentState.LEASED:
        return
    if held.state not in _BACK:
        raise AssignmentClosedError(f"assignment '{held.id}' is {held.state} already; claim the next task")
    task = lock_task(session, held.task_number)
    if task.state != TaskState.OPEN:
        raise LeaseLostError("the lease ran out and the task went to somebody else; claim the next one")
    take_place(session, task)
    held.state = AssignmentState.LEASED


def expire(session: Session, *, queue: str, now: float) -> None:
    """Frees the places whose lease has run out, the oldest first, a bounded number at a time."""
    late = session.scalars(
        select(Assignment)
        .join(Task)
        .where(
            Assignment.state == AssignmentState.LEASED,
            Assignment.lease_expires_at <= now,
            Task.queue_name == queue,
        )
        .order_by(Assignment.lease_expires_at)
        .limit(_EXPIRED_AT_ONCE)
        .with_for_update(key_share=True, skip_locked=True, of=Assignment)
    ).all()
    for assignment in late:
        assignment.state = AssignmentState.EXPIRED
        free_place(session, assignment.task)


def lock_task(session: Session, number: int) -> Task:
    """Returns a task as it is now, its row locked to the end of the transaction, and its queue as it is."""
    task = session.scalars(
        select(Task)
        .where(Task.number == number)
        .with_for_update(key_share=True, of=Task)
        .execution_options(populate_existing=True)
    ).one()
    refresh_queues(session, [task])
    return task


def take_place(session: Session, task: Task) -> None:
    """Counts one more lease of a locked task."""
    task.taken += 1
    task.state = state_of(task)


def free_place(session: Session, task: Task) -> None:
    """Counts one lease less, and opens the task again."""
    task = lock_task(session, task.number)
    task.taken -= 1
    task.state = state_of(task)


def held_record(assignment: Assignment) -> Held:
    """Returns what the rater sees of an assignment."""
    task = assignment.task
    shown = [task.answers[position] for position in assignment.order]
    return Held(
        id=assignment.id,
        task=task.id,
        queue=task.queue_name,
        kind=Kind(task.queue.kind),
        instructions=task.queue.instructions,
        prompt=prompt_record(task.prompt),
        answers=tuple(ShownAnswer(id=answer.id, text=answer.text) for answer in shown),
        lease_expires_at=assignment.lease_expires_at,
    )


def _give_back(session: Session, held: Assignment) -> None:
    held.state = AssignmentState.RELEASED
    free_place(session, held.task)


def _take(session: Session, rules: Queue, rater: str, lease_ends: float, now: float) -> Assignment:
    """Takes a place of the next task for the rater."""
    chance = random.SystemRandom()
    golden = rules.gold_every and chance.randrange(rules.gold_every) == 0
    task = _next(session, rules.name, rater, gold=True) if golden else None
    task = task or _next(session, rules.name, rater, gold=False)
    if task is None:
        raise NoTaskError(f"queue '{rules.name}' has no task left for you; thank you")
    take_place(session, task)
    order = list(range(len(task.answers)))
    chance.shuffle(order)
    assignment = session.scalar(
        select(Assignment).where(Assignment.task_number == task.number, Assignment.rater_id == rater)
    )
    if assignment is None:
        assignment = Assignment(
            id=secrets.token_hex(16), task=task, rater_id=rater, order=order, lease_expires_at=lease_ends
        )
        session.add(assignment)
    # A rater who had the task before sees it in the same order again: a draft in the browser still fits.
    assignment.state, assignment.claimed_at = AssignmentState.LEASED, now
    return assignment


def _next(session: Session, queue: str, rater: str, *, gold: bool) -> Task | None:
    """Returns the first open task that the rater has not had, locked.

    Rows that another claim holds are skipped at first; if nothing else is left, they are waited for: the
    other claim may have left a place.
    """
    mine = exists().where(
        Assignment.task_number == Task.number, Assignment.rater_id == rater, Assignment.state.not_in(_BACK)
    )
    candidates = (
        select(Task)
        .where(Task.queue_name == queue, Task.is_gold.is_(gold), Task.state == TaskState.OPEN, ~mine)
        .limit(1)
        .execution_options(populate_existing=True)
    )
    # Gold tasks never fill up: everybody meeting them in one order would soon be known.
    candidates = (
        candidates.order_by(func.random()) if gold else candidates.order_by(Task.priority.desc(), Task.number)
    )
    while True:
        for skip_locked in (True, False):
            found = session.scalar(
                candidates.with_for_update(key_share=True, skip_locked=skip_locked, of=Task)
            )
            if found is not None:
                refresh_queues(session, [found])
                return found
        if session.scalar(candidates) is None:
            return None


def _assignments(queue: str, rater: str) -> Select[Assignment]:
    return (
        select(Assignment)
        .join(Task, Assignment.task_number == Task.number)
        .where(Task.queue_name == queue, Assignment.rater_id == rater)
    )
