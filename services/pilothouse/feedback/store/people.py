"""Raters, invitations and logged-in browsers. Secrets are stored as digests only.

Every function runs inside the caller's transaction.
"""

import secrets
from dataclasses import dataclass

from blake3 import blake3
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as Transaction

from pilothouse.errors import InvalidRequestError, NotFoundError
from pilothouse.feedback.store.claims import lock_task, release_all
from pilothouse.feedback.store.erasing import ERASED, strip_events, strip_work
from pilothouse.feedback.store.events import record
from pilothouse.feedback.store.queues import has_place, state_of
from pilothouse.feedback.store.raters import get_rater, lock_rater
from pilothouse.feedback.tables import Invite, Rater, RaterState, Session, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A rater as the page and the measures know one."""

    id: str
    name: str
    """Empty for an erased person."""
    pseudonym: str
    admin: bool
    state: RaterState


def add_rater(
    session: Transaction, *, name: str, admin: bool = False, password_hash: str | None = None, now: float
) -> str:
    """Adds a rater and returns the id.

    Raises:
        InvalidRequestError: The name is taken.
    """
    rater = Rater(
        id=secrets.token_hex(8),
        name=name,
        pseudonym=_pseudonym(),
        password_hash=password_hash,
        admin=admin,
        state=RaterState.ACTIVE,
        created_at=now,
    )
    session.add(rater)
    try:
        session.flush()
    except IntegrityError:
        raise InvalidRequestError(f"the name '{name}' is taken; choose another") from None
    return rater.id


def create_invite(session: Transaction, *, admin: bool, valid_seconds: float, actor: str, now: float) -> str:
    """Returns the secret of a new invitation; only its digest is kept."""
    token = secrets.token_urlsafe(24)
    session.add(
        Invite(token_digest=digest_of(token), admin=admin, created_at=now, expires_at=now + valid_seconds)
    )
    record(session, "invite", actor=actor, detail="admin" if admin else "rater", now=now)
    return token


def valid_invite(session: Transaction, token: str, *, now: float) -> bool:
    """Returns whether the invitation can still be used."""
    invite = session.get(Invite, digest_of(token))
    return invite is not None and invite.used_by is None and invite.expires_at > now


def register(session: Transaction, *, token: str, name: str, password_hash: str, now: float) -> str:
    """Uses an invitation up and returns the new rater's id.

    Raises:
        NotFoundError: The invitation does not exist, was used or has run out.
        InvalidRequestError: The name is taken, in whatever capitals.
    """
    invite = session.get(Invite, digest_of(token), with_for_update=True)
    if invite is None or invite.used_by is not None or invite.expires_at <= now:
        raise NotFoundError("this invitation does not exist, was used or has run out; ask for a new one")
    if _like(session, name):
        raise InvalidRequestError(f"the name '{name}' is taken; choose another")
    rater = add_rater(session, name=name, admin=invite.admin, password_hash=password_hash, now=now)
    invite.used_by = rater
    return rater


def credentials(session: Transaction, name: str) -> tuple[Person, str] | None:
    """Returns a rater who has a password, and its hash; None for any other name.

    Capitals make no difference, except between two raters whose names differ by nothing else.
    """
    named = _like(session, name)
    rater = next((rater for rater in named if rater.name == name), named[0] if len(named) == 1 else None)
    if rater is None or rater.password_hash is None:
        return None
    return person(rater), rater.password_hash


def open_session(session: Transaction, rater: str, *, now: float) -> str:
    """Logs a browser in; returns the secret for its cookie."""
    token = secrets.token_urlsafe(32)
    session.add(Session(token_digest=digest_of(token), rater_id=rater, created_at=now, seen_at=now))
    return token


def logged_in(
    session: Transaction, token: str, *, longest_seconds: float, idle_seconds: float, now: float
) -> Person | None:
    """Returns who is behind a cookie; None where it is unknown, too old, or its rater may not work."""
    found = session.get(Session, digest_of(token))
    if found is None or now - found.created_at > longest_seconds or now - found.seen_at > idle_seconds:
        return None
    return person(found.rater) if found.rater.state == RaterState.ACTIVE else None


def touch_session(session: Transaction, token: str, *, now: float) -> None:
    """Notes that a browser was here."""
    session.execute(update(Session).where(Session.token_digest == digest_of(token)).values(seen_at=now))


def close_session(session: Transaction, token: str) -> None:
    """Logs a browser out."""
    session.execute(delete(Session).where(Session.token_digest == digest_of(token)))


def get_person(session: Transaction, rater: str) -> Person:
    """Returns a rater.

    Raises:
        NotFoundError: There is none with this id.
    """
    return person(get_rater(session, rater))


def list_people(session: Transaction) -> list[Person]:
    """Returns all raters, by pseudonym."""
    return [person(rater) for rater in session.scalars(select(Rater).order_by(Rater.pseudonym))]


def set_state(session: Transaction, rater: str, state: RaterState, *, actor: str, now: float) -> None:
    """Lets a rater in or keeps one out.

    What an excluded rater said counts no more, and the places of it are free again. Letting the rater in
    again does not undo that for tasks that others have answered since.

    Args:
        session: Open transaction.
        rater: Id, pseudonym or name.
        state: The new state.
        actor: Who says so; empty for the operator.
        now: Seconds since 1970-01-01 UTC.

    Raises:
        NotFoundError: There is no such rater.
    """
    rater = _id_of(session, rater)
    found = lock_rater(session, rater)
    if found.state == state:
        return
    if state == RaterState.EXCLUDED:
        _discount(session, rater)
    elif found.state == RaterState.EXCLUDED:
        _count_again(session, rater)
    found.state = state
    if state != RaterState.ACTIVE:
        session.execute(delete(Session).where(Session.rater_id == rater))
    record(session, f"rater {state}", actor=actor, target=rater, now=now)


def erase(session: Transaction, rater: str, *, actor: str, now: float) -> int:
    """Forgets a person; returns how many rankings stay, under a new pseudonym.

    Nothing in later exports or in the log of events links the two, see `erasing`.

    Args:
        session: Open transaction.
        rater: Id, pseudonym or name.
        actor: Who says so; empty for the operator.
        now: Seconds since 1970-01-01 UTC.

    Raises:
        NotFoundError: There is no such rater.
    """
    rater = _id_of(session, rater)
    found = lock_rater(session, rater)
    release_all(session, rater)
    found.name, found.password_hash, found.admin = None, None, False
    found.pseudonym, found.created_at = _pseudonym(), 0.0
    found.state = RaterState.DISABLED if found.state == RaterState.ACTIVE else found.state
    session.execute(delete(Session).where(Session.rater_id == rater))
    session.execute(delete(Invite).where(Invite.used_by == rater))
    kept = strip_work(session, rater)
    strip_events(session, rater)
    record(session, "erase", actor=actor, target=ERASED, now=now)
    return kept


def person(rater: Rater) -> Person:
    """Returns a rater as a plain value."""
    return Person(
        id=rater.id,
        name=rater.name or "",
        pseudonym=rater.pseudonym,
        admin=rater.admin,
        state=RaterState(rater.state),
    )


def digest_of(token: str) -> str:
    """Returns what is kept of a secret: tokens are random, so that a plain digest suffices."""
    return blake3(token.encode("utf-8", "surrogatepass")).hexdigest()


def _id_of(session: Transaction, rater: str) -> str:
    """Returns the id of who has this id, pseudonym or name, in this order; else what was given."""
    for column in (Rater.id, Rater.pseudonym, Rater.name):
        if (found := session.scalar(select(Rater.id).where(column == rater))) is not None:
            return found
    return rater


def _like(session: Transaction, name: str) -> list[Rater]:
    """Returns the raters with a password whose names differ from this one by capitals at most."""
    rows = session.execute(select(Rater.id, Rater.name).where(Rater.password_hash.is_not(None))).tuples()
    # Databases fold ASCII only, or as their locale says.
    alike = [id for id, other in rows if other is not None and other.casefold() == name.casefold()]
    return list(session.scalars(select(Rater).where(Rater.id.in_(alike)))) if alike else []


def _pseudonym() -> str:
    return f"rater-{secrets.token_hex(4)}"


def _discount(session: Transaction, rater: str) -> None:
    release_all(session, rater)
    for row in _answers_of(session, rater, counts=True):
        row.counts = False
        task = lock_task(session, row.task_number)
        task.taken -= 1
        task.answered -= 1
        task.state = state_of(task)


def _count_again(session: Transaction, rater: str) -> None:
    for row in _answers_of(session, rater, counts=False):
        task = lock_task(session, row.task_number)
        if not has_place(task):
            continue
        row.counts = True
        task.taken += 1
        task.answered += 1
        task.state = state_of(task)


def _answers_of(session: Transaction, rater: str, *, counts: bool) -> list[Submission]:
    return list(
        session.scalars(
            select(Submission)
            .where(Submission.rater_id == rater, Submission.counts.is_(counts), Submission.kind != "skip")
            .order_by(Submission.task_number)  # tasks are locked in one order everywhere
        )
    )
