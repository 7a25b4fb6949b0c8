"""Direct adjustments: vetoes and flags of answers and prompts. They reach every export."""

from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from pilothouse.errors import NotFoundError
from pilothouse.feedback.store.events import record
from pilothouse.feedback.store.queues import refresh_queues, state_of
from pilothouse.feedback.tables import Answer, Prompt, Task, TaskState


class Adjustment(StrEnum):
    """What an adjustment does."""

    VETO = "veto"
    """An answer ranks below all others and is never a demonstration; a prompt is left out, its tasks are
    withdrawn and it is not added again."""
    FLAG = "flag"
    """Stays, and is marked in exports."""


def adjust_answer(
    session: Session,
    answer: str,
    kind: Adjustment,
    *,
    lift: bool,
    reason: str = "",
    actor: str = "",
    now: float,
) -> None:
    """Vetoes or flags an answer, or lifts that; doing it twice is no error.

    Raises:
        NotFoundError: There is no such answer.
    """
    row = session.get(Answer, answer, with_for_update={"key_share": True})
    if row is None:
        raise NotFoundError(
            f"there is no answer '{answer}'; `pilothouse feedback tasks`, ListOpenTasks and the column "
            "answer_ids of an export of rankings name them"
        )
    _mark(row, kind, lift)
    record(session, _action(kind, lift, "answer"), actor=actor, target=answer, detail=reason, now=now)


def adjust_prompt(
    session: Session,
    task: str,
    kind: Adjustment,
    *,
    lift: bool,
    reason: str = "",
    actor: str = "",
    now: float,
) -> None:
    """Vetoes or flags the prompt of a task, or lifts that. All tasks with this prompt follow.

    Raises:
        NotFoundError: There is no such task.
    """
    found = session.scalar(select(Task).where(Task.id == task))
    if found is None:
        raise NotFoundError(
            f"there is no task '{task}'; `pilothouse feedback tasks`, ListOpenTasks and exports name them"
        )
    # Locked against another adjustment, and against tasks that are being added to it.
    prompt = session.get_one(Prompt, found.prompt_id, with_for_update=True, populate_existing=True)
    _mark(prompt, kind, lift)
    if kind is Adjustment.VETO:
        tasks = session.scalars(
            select(Task)
            .where(Task.prompt_id == found.prompt_id)
            .order_by(Task.number)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        ).all()
        refresh_queues(session, tasks)
        for row in tasks:
            row.state = TaskState.OPEN if lift else TaskState.WITHDRAWN
            row.state = state_of(row)
    record(
        session, _action(kind, lift, "prompt"), actor=actor, target=found.prompt_id, detail=reason, now=now
    )


def _mark(row: Answer | Prompt, kind: Adjustment, lift: bool) -> None:
    if kind is Adjustment.VETO:
        row.vetoed = not lift
    else:
        row.flagged = not lift


def _action(kind: Adjustment, lift: bool, what: str) -> str:
    return f"{'lift ' if lift else ''}{kind} {what}"
