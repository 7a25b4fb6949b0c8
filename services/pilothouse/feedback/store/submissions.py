"""What raters say: stored once, whatever is repeated, and taken back while there is time.

Every function runs inside the caller's transaction; what it stored is durable when that has ended.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from blake3 import blake3
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from pilothouse.errors import (
    InvalidRequestError,
    NotFoundError,
    SubmissionConflictError,
    UndoTooLateError,
)
from pilothouse.feedback.formats.judged import dense
from pilothouse.feedback.store.claims import (
    Held,
    held_record,
    lock_task,
    own_assignment,
    secure,
)
from pilothouse.feedback.store.queues import state_of
from pilothouse.feedback.store.raters import active_rater, lock_rater
from pilothouse.feedback.tables import (
    Assignment,
    AssignmentState,
    Demonstration,
    Kind,
    Submission,
    TaskState,
)

SKIP_REASONS = ("unclear", "offensive", "language", "equal", "other")
"""Why a task may be skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingContent:
    """Ranks of the answers in the order in which the rater saw them."""

    ranks: tuple[int, ...]
    """1 is best; equal ranks are ties."""
    unsafe: tuple[int, ...] = ()
    """Places, from 0, of unsafe answers."""
    corrections: Mapping[int, str] = field(default_factory=dict)
    """Place, from 0 → better text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstrationContent:
    """An answer that the rater wrote."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipContent:
    """No answer, and why."""

    reason: str


Content = RankingContent | DemonstrationContent | SkipContent

_KINDS = {RankingContent: "ranking", DemonstrationContent: "demonstration", SkipContent: "skip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A rater's answer to a task."""

    id: str
    """The caller's: the same one again is the same submission."""
    assignment: str
    rater: str
    content: Content
    comment: str = ""
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        """Returns ``ranking``, ``demonstration`` or ``skip``."""
        return _KINDS[type(self.content)]

    @property
    def digest(self) -> str:
        """Of all of it, so that another content under the same id is noticed."""
        return blake3(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest(length=16)


def submit(session: Session, said: Said, *, now: float) -> bool:
    """Stores a submission; returns False where the same one is stored already.

    A lease that has run out is taken again if the place is still free.

    Raises:
        NotFoundError: There is no such rater, or the rater has no such assignment.
        RaterBarredError: The rater may not work.
        AssignmentClosedError: The task was answered or skipped under another id.
        LeaseLostError: Another rater has the place.
        SubmissionConflictError: The id was used for another content.
        InvalidRequestError: The content is not what the task asks for.
    """
    lock_rater(session, said.rater)
    if (stored := session.get(Submission, said.id)) is not None:
        if stored.digest == said.digest:
            return False
        raise SubmissionConflictError(
            f"submission '{said.id}' is stored with another content; make a new id for every submission"
        )
    active_rater(session, said.rater)
    held = own_assignment(session, said.assignment, said.rater)
    _check(said.content, held)
    secure(session, held)
    skip = isinstance(said.content, SkipContent)
    task = lock_task(session, held.task_number)
    if skip:
        task.taken -= 1  # the place is for somebody else
    else:
        task.answered += 1
    task.state = state_of(task)
    held.state = AssignmentState.SKIPPED if skip else AssignmentState.ANSWERED
    session.add(_row(said, held, now))
    session.flush()
    session.add_all(_written(said, held))
    return True


def undo(
    session: Session, *, submission: str, rater: str, undo_seconds: float, lease_seconds: int, now: float
) -> Held:
    """Takes the rater's own submission back; the rater holds the task again.

    A skip gave the place away, and so did the exclusion of a rater whose submission does not count since:
    these can be taken back while a place is free.

    Raises:
        NotFoundError: There is no such rater, or the rater has no such submission.
        RaterBarredError: The rater may not work.
        UndoTooLateError: The time is over, or the place went to somebody else.
    """
    active_rater(session, rater)
    row = session.scalar(select(Submission).where(Submission.id == submission, Submission.rater_id == rater))
    if row is None:
        raise NotFoundError(f"you have no submission '{submission}'")
    if now - row.created_at > undo_seconds:
        raise UndoTooLateError(f"a submission can be taken back for {undo_seconds:g} s; ask an admin")
    held = own_assignment(session, row.assignment_id, rater)
    task = lock_task(session, held.task_number)
    if row.kind == "skip" or not row.counts:
        if task.state != TaskState.OPEN:
            raise UndoTooLateError("the task went to somebody else; claim the next one")
        task.taken += 1
    else:
        task.answered -= 1
    task.state = state_of(task)
    session.execute(delete(Demonstration).where(Demonstration.submission_id == submission))
    session.delete(row)
    held.state = AssignmentState.LEASED
    held.lease_expires_at = now + (task.queue.lease_seconds or lease_seconds)
    session.flush()
    return held_record(held)


def _check(content: Content, held: Assignment) -> None:
    kind = Kind(held.task.queue.kind)
    if isinstance(content, SkipContent):
        if content.reason not in SKIP_REASONS:
            raise InvalidRequestError(
                f"'{content.reason}' is no reason to skip; give one of {', '.join(SKIP_REASONS)}"
            )
    elif isinstance(content, RankingContent):
        if kind is not Kind.RANKING:
            raise InvalidRequestError("this task asks for a written answer; send a demonstration")
        _check_ranking(content, len(held.order))
    else:
        if kind is not Kind.DEMONSTRATION:
            raise InvalidRequestError("this task asks for a ranking; send ranks")
        if not content.text.strip():
            raise InvalidRequestError("the written answer is empty; write one, or skip the task")


def _check_ranking(content: RankingContent, count: int) -> None:
    if len(content.ranks) != count:
        raise InvalidRequestError(f"{len(content.ranks)} ranks for {count} answers; give one to each")
    if any(not 1 <= rank <= count for rank in content.ranks):
        raise InvalidRequestError(f"ranks go from 1, the best, to {count}; equal ranks are ties")
    places = [*content.unsafe, *content.corrections]
    if any(not 0 <= place < count for place in places):
        raise InvalidRequestError(f"places of answers go from 0 to {count - 1}")
    if len(set(content.unsafe)) != len(content.unsafe):
        raise InvalidRequestError("an answer is called unsafe twice; name each place once")
    if any(not text.strip() for text in content.corrections.values()):
        raise InvalidRequestError("a correction is empty; write the better text or leave it out")


def _row(said: Said, held: Assignment, now: float) -> Submission:
    content = said.content
    ranks, unsafe = [], []
    if isinstance(content, RankingContent):
        by_position = dict(zip(held.order, content.ranks, strict=True))
        ranks = list(dense([by_position[position] for position in range(len(held.order))]))
        unsafe = sorted(held.order[place] for place in content.unsafe)
    return Submission(
        id=said.id,
        digest=said.digest,
        assignment_id=held.id,
        task_number=held.task_number,
        rater_id=said.rater,
        kind=said.kind,
        ranks=ranks,
        unsafe=unsafe,
        skip_reason=content.reason if isinstance(content, SkipContent) else "",
        comment=said.comment,
        seconds=said.seconds,
        counts=True,
        created_at=now,
    )


def _written(said: Said, held: Assignment) -> list[Demonstration]:
    """Returns what the rater wrote, by itself or over an answer."""
    if isinstance(said.content, DemonstrationContent):
        texts: list[tuple[str, str | None]] = [(said.content.text, None)]
    elif isinstance(said.content, RankingContent):
        texts = [
            (text, held.task.answers[held.order[place]].id)
            for place, text in sorted(said.content.corrections.items())
        ]
    else:
        return []
    return [
        Demonstration(id=f"{said.id}#{number}", submission_id=said.id, corrects=corrects, text=text)
        for number, (text, corrects) in enumerate(texts)
    ]
