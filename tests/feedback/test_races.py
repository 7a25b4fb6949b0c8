"""Two transactions at once on PostgreSQL: the second waits for the first, and then sees what it did."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from pilothouse.errors import RaterBarredError
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import claims, people, submissions
from pilothouse.feedback.tables import RaterState, Task

from .conftest import NOW, fill, ranking_task, raters
from .test_claims import LEASE, claim, counts, said_of

ON_POSTGRESQL = pytest.mark.parametrize("url", ["postgresql"], indirect=True)
Act = Callable[[Session], object]


async def beside(database: Database, first: Act, second: Act) -> None:
    """Commits ``first`` only when ``second``, begun after it, has met its locks or ended."""
    done, commit = threading.Event(), threading.Event()

    def held_open(session: Session) -> None:
        first(session)
        session.flush()
        done.set()
        commit.wait()

    def is_waiting(session: Session) -> bool:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(session.scalar(waiting))

    one = asyncio.create_task(database.write(held_open))
    await asyncio.to_thread(done.wait)
    other = asyncio.create_task(database.write(second))
    while not other.done() and not await database.read(is_waiting):
        await asyncio.sleep(0)
    commit.set()
    await one
    await other


def exclude(rater: str) -> Act:
    return lambda session: people.set_state(session, rater, RaterState.EXCLUDED, actor="", now=NOW)


@ON_POSTGRESQL
async def test_a_submission_waits_for_an_exclusion_and_is_refused(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    said = said_of(rater, claim(database, rater))
    with pytest.raises(RaterBarredError):
        await beside(database, exclude(rater), lambda session: submissions.submit(session, said, now=NOW))
    assert counts(database) == {"a": (0, 0, "open")}


@ON_POSTGRESQL
async def test_an_undo_waits_for_an_exclusion_and_is_refused(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    said = said_of(rater, claim(database, rater))
    database.write_now(submissions.submit, said, now=NOW)
    times = {"undo_seconds": 9, "lease_seconds": LEASE, "now": NOW}
    with pytest.raises(RaterBarredError):
        await beside(
            database,
            exclude(rater),
            lambda session: submissions.undo(session, submission=said.id, rater=rater, **times),
        )
    assert counts(database) == {"a": (0, 0, "open")}


@ON_POSTGRESQL
async def test_a_submission_waits_for_an_erasure_and_is_refused(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    said = said_of(rater, claim(database, rater))
    with pytest.raises(RaterBarredError):
        await beside(
            database,
            lambda session: people.erase(session, rater, actor="", now=NOW),
            lambda session: submissions.submit(session, said, now=NOW),
        )
    assert counts(database) == {"a": (0, 0, "open")}


@ON_POSTGRESQL
async def test_a_lease_that_expires_during_an_exclusion_frees_its_place_once(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    claim(database, rater)
    await beside(database, lambda session: claims.expire(session, queue="q", now=NOW + LEASE), exclude(rater))
    assert counts(database) == {"a": (0, 0, "open")}


@ON_POSTGRESQL
async def test_a_claim_during_the_expiry_of_the_raters_lease_holds_its_place(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    claim(database, rater)
    await beside(
        database,
        lambda session: claims.expire(session, queue="q", now=NOW + LEASE),
        lambda session: claims.claim(session, queue="q", rater=rater, lease_seconds=LEASE, now=NOW),
    )
    assert counts(database) == {"a": (1, 0, "full")}


@ON_POSTGRESQL
async def test_a_lease_that_is_renewed_and_claimed_at_once_has_one_place(database: Database) -> None:
    fill(database, ranking_task("a"), overlap=2)
    [rater] = raters(database, 1)
    held = claim(database, rater)
    database.write_now(claims.release, assignment=held.id, rater=rater)
    await beside(
        database,
        lambda session: claims.renew(session, assignment=held.id, rater=rater, lease_seconds=LEASE, now=NOW),
        lambda session: claims.claim(session, queue="q", rater=rater, lease_seconds=LEASE, now=NOW),
    )
    assert database.read_now(lambda session: session.scalars(select(Task.taken)).all()) == [1]
