"""Takes out of a person's work what leads to the person, or from a later export to an earlier one.

Rankings and written texts stay. Ids, times, durations, remarks and the orders in which answers were shown go.
Everything here runs inside the caller's transaction.
"""

import secrets

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session

from pilothouse.feedback.tables import Assignment, AssignmentState, Demonstration, Event, Submission

ERASED = "erased"
"""Stands in the log of events for a person who was erased."""


def strip_work(session: Session, rater: str) -> int:
    """Takes the traces out of what a rater said; returns how many rankings there are.

    Args:
        session: Open transaction. The rater's row is locked and the rater holds no lease.
        rater: Rater's id.
    """
    rows = session.execute(select(Submission.id, Submission.kind).where(Submission.rater_id == rater)).all()
    names = {id: secrets.token_hex(16) for id, _ in rows}  # random: their order tells nothing either
    written = _take_texts(session, rater)
    if names:
        session.connection().execute(
            update(Submission.__table__)  # type: ignore[arg-type]
            .where(Submission.id == bindparam("old"))
            .values(
                id=bindparam("new"),
                digest=bindparam("new"),
                comment="",
                seconds=0.0,
                created_at=0.0,
            ),
            [{"old": old, "new": new} for old, new in names.items()],
        )
    of = Assignment.rater_id == rater
    nothing_came = (AssignmentState.RELEASED, AssignmentState.EXPIRED)
    session.execute(delete(Assignment).where(of, Assignment.state.in_(nothing_came)))
    session.execute(update(Assignment).where(of).values(order=[], claimed_at=0.0, lease_expires_at=0.0))
    session.add_all(
        Demonstration(
            id=id.replace(submission, names[submission], 1),
            submission_id=names[submission],
            corrects=corrects,
            text=text,
        )
        for id, submission, corrects, text in written
    )
    session.flush()
    return sum(kind == "ranking" for _, kind in rows)


def strip_events(session: Session, rater: str) -> None:
    """Takes a rater out of the log of events, which would tell who has the new pseudonym."""
    for column in (Event.actor, Event.target):
        session.execute(update(Event).where(column == rater).values({column: ERASED}))


def _take_texts(session: Session, rater: str) -> list[tuple[str, str, str | None, str]]:
    """Removes what a rater wrote, for the submissions' ids are about to change; returns all of it."""
    said = select(Submission.id).where(Submission.rater_id == rater)
    texts = select(
        Demonstration.id, Demonstration.submission_id, Demonstration.corrects, Demonstration.text
    ).where(Demonstration.submission_id.in_(said))
    found = list(session.execute(texts).tuples())
    session.execute(delete(Demonstration).where(Demonstration.submission_id.in_(said)))
    return found
