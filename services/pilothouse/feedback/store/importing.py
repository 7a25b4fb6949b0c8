"""Rankings that come from elsewhere: tasks, raters and submissions, in the caller's transaction."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blake3 import blake3
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.formats.imported import ImportedRanking, content_digest
from pilothouse.feedback.formats.split import messages_of
from pilothouse.feedback.records import PromptRecord
from pilothouse.feedback.store.import_matches import (
    Held,
    Judgements,
    Raters,
    known_corrections,
    ranks_of,
)
from pilothouse.feedback.store.queues import get_queue, refresh_queues, state_of
from pilothouse.feedback.store.reading import prompt_record
from pilothouse.feedback.store.tasks import TaskRecord, add_tasks, parts, prompt_id
from pilothouse.feedback.tables import Assignment, AssignmentState, Kind, Submission, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What an import added."""

    tasks: int
    rankings: int
    known: int
    """Rankings that were there already, or whose prompt is vetoed."""


def add_rankings(
    session: Session, queue_name: str, rankings: Sequence[ImportedRanking], *, now: float
) -> Added:
    """Adds rankings to a queue, with their tasks and raters where those are new.

    Where the queue has the prompt with these answers, the ranking is one of that task; the overlap does not
    bound what was ranked elsewhere. A rater of a file is the one with that pseudonym, else one without a
    password, named after the file's. The same ranking again is known: by the id that an export gave it, or by
    task and rater. Where a file names no rater, equal rankings in it are those of several people,
    ``imported-1``, ``imported-2`` and so on, and as many as came in before are known.

    Raises:
        NotFoundError: There is no such queue.
        InvalidRequestError: The queue does not ask for rankings.
        InvalidDataError: A rater has ranked these answers otherwise, or skipped them.
    """
    queue = get_queue(session, queue_name)
    if queue.kind != Kind.RANKING:
        raise InvalidRequestError(
            f"queue {queue_name} asks for {queue.kind}s; import into a queue of rankings"
        )
    known = known_corrections(session, queue_name, rankings)
    others = [ranking for ranking in rankings if ranking.record not in known]
    raters = Raters(session, now)
    raters.hold({ranking.rater for ranking in others})
    tasks, added = _tasks(session, queue_name, others, now)
    judgements = Judgements(session, tasks.values(), raters)
    new = 0
    for ranking in others:
        task = tasks.get(ranking.content)
        if not ranking.ranks or task is None or task.prompt.vetoed:
            continue  # nothing is collected for a vetoed prompt
        if not _known(ranking, task, raters, judgements):
            name = ranking.rater or judgements.free_name(task, raters)
            _answer(session, task, raters.get(name), ranking, raters, judgements, now)
            new += 1
    session.flush()
    return Added(tasks=added, rankings=new, known=sum(bool(one.ranks) for one in rankings) - new)


def _known(ranking: ImportedRanking, task: Task, raters: Raters, judgements: Judgements) -> bool:
    if judgements.knows(task, ranking, raters.find(ranking.rater)):
        return True
    return not ranking.rater and judgements.knows_nameless(task, ranking)


def _tasks(
    session: Session, queue: str, rankings: Sequence[ImportedRanking], now: float
) -> tuple[dict[str, Task], int]:
    """Returns the tasks by content, and how many of them are new."""
    wanted = {ranking.content: ranking for ranking in rankings}
    prompts = sorted({id for of in wanted.values() for id in _prompt_ids(of.prompt)})
    tasks: dict[str, Task] = {}
    for task in _locked(session, Task.prompt_id, prompts):
        if task.queue_name == queue:
            texts = [answer.text for answer in task.answers]
            tasks.setdefault(content_digest(prompt_record(task.prompt), texts), task)
    missing = {
        f"import-{blake3(f'{queue}/{content}'.encode()).hexdigest(length=16)}": of
        for content, of in wanted.items()
        if content not in tasks
    }
    records = [TaskRecord(id=id, prompt=of.prompt, answers=of.answers) for id, of in missing.items()]
    added = sum(add_tasks(session, queue, part, now=now) for part in parts(records))
    tasks |= {missing[task.id].content: task for task in _locked(session, Task.id, list(missing))}
    refresh_queues(session, tasks.values())
    return tasks, added


def _locked(session: Session, column: object, values: Sequence[str]) -> Iterable[Task]:
    for part in parts(values):
        yield from session.scalars(
            select(Task)
            .where(column.in_(part))  # type: ignore[attr-defined]
            .order_by(Task.number)
            .with_for_update(key_share=True)
            .options(selectinload(Task.answers), selectinload(Task.prompt))
        )


def _prompt_ids(prompt: PromptRecord) -> set[str]:
    """Returns the ids of a prompt as a text and as the user's one message: an export may write either."""
    chat = messages_of(prompt)
    forms = {prompt_id(prompt), prompt_id(PromptRecord(messages=chat))}
    return forms | (
        {prompt_id(PromptRecord(text=chat[0][1]))} if [role for role, _ in chat] == ["user"] else set()
    )


def _answer(
    session: Session,
    task: Task,
    rater: str,
    ranking: ImportedRanking,
    raters: Raters,
    judgements: Judgements,
    now: float,
) -> None:
    held = judgements.get(task, rater)
    leased = held is not None and held.assignment.state == AssignmentState.LEASED
    if held is None:
        assignment = Assignment(
            id=secrets.token_hex(16),
            task_number=task.number,
            rater_id=rater,
            order=list(range(len(ranking.ranks))),
            lease_expires_at=now,
            claimed_at=now,
        )
        session.add(assignment)
    else:
        assignment = held.assignment
    assignment.state = AssignmentState.ANSWERED
    counts, ranks = raters.counts(rater), ranks_of(task, ranking)
    id = blake3(f"{task.id}/{rater}".encode()).hexdigest(length=16)
    session.add(
        Submission(
            id=id,
            digest=id,
            assignment_id=assignment.id,
            task_number=task.number,
            rater_id=rater,
            kind="ranking",
            ranks=list(ranks),
            unsafe=[],
            skip_reason="",
            comment="",
            seconds=0.0,
            counts=counts,
            created_at=ranking.submitted_at or now,
        )
    )
    judgements.add(task.number, rater, Held(assignment, id, ranks, ranking.place))
    if counts:
        task.taken += not leased
        task.answered += 1
        task.state = state_of(task)
