"""Two transactions at once on PostgreSQL: the second waits for the first, and then sees what it did."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from pilothouse.errors import RaterBarredError
from pilothouse.feedback.database import Database
from pilothouse.feedback.formats.imported import ImportedRanking, content_digest
from pilothouse.feedback.store import adjustments, claims, importing, people, queues, submissions
from pilothouse.feedback.store.adjustments import Adjustment
from pilothouse.feedback.store.progress import progress
from pilothouse.feedback.store.queues import QueueSettings
from pilothouse.feedback.store.tasks import add_tasks
from pilothouse.feedback.tables import Kind, Prompt, Rater, RaterState, Submission, Task, TaskState

from .conftest import NOW, fill, ranking_task, raters
from .test_claims import LEASE, answer, claim, counts, said_of

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


def overlap(count: int) -> Act:
    return lambda session: queues.put_queue(
        session, QueueSettings(name="q", kind=Kind.RANKING, overlap=count), now=NOW
    )


def veto(*, lift: bool = False) -> Act:
    return lambda session: adjustments.adjust_prompt(session, "a", Adjustment.VETO, lift=lift, now=NOW)


def import_by(rater: str, task: str) -> Act:
    record = ranking_task(task, answers=2)
    ranking = ImportedRanking(
        content=content_digest(record.prompt, [answer.text for answer in record.answers]),
        prompt=record.prompt,
        answers=record.answers,
        ranks=(1, 2),
        rater=rater,
        submitted_at=NOW,
    )
    return lambda session: importing.add_rankings(session, "q", [ranking], now=NOW)


@ON_POSTGRESQL
@pytest.mark.parametrize(("old", "new", "state"), [(1, 2, TaskState.OPEN), (2, 1, TaskState.FULL)])
async def test_a_claim_beside_a_changed_overlap_leaves_the_tasks_true_state(
    old: int, new: int, state: TaskState, database: Database
) -> None:
    fill(database, ranking_task("a"), overlap=old)
    [rater] = raters(database, 1)
    claim_it: Act = lambda session: claims.claim(  # noqa: E731
        session, queue="q", rater=rater, lease_seconds=LEASE, now=NOW
    )
    await beside(database, overlap(new), claim_it)
    assert database.read_now(lambda session: session.scalars(select(Task.state)).one()) == state


@ON_POSTGRESQL
async def test_a_lifted_veto_beside_a_larger_overlap_opens_the_task(database: Database) -> None:
    fill(database, ranking_task("a"), overlap=1)
    [rater] = raters(database, 1)
    answer(database, rater, claim(database, rater))
    database.write_now(veto())
    await beside(database, veto(lift=True), overlap(2))
    assert database.read_now(lambda session: session.scalars(select(Task.state)).one()) == TaskState.OPEN


@ON_POSTGRESQL
@pytest.mark.parametrize("lift", [True, False])
async def test_of_a_veto_and_its_lift_the_later_one_holds(lift: bool, database: Database) -> None:
    fill(database, ranking_task("a"))
    if not lift:
        database.write_now(veto())
    await beside(database, veto(lift=not lift), veto(lift=lift))
    vetoed, state = database.read_now(
        lambda session: session.execute(select(Prompt.vetoed, Task.state).join(Task.prompt)).one()
    )
    assert vetoed is not lift
    assert state == (TaskState.OPEN if lift else TaskState.WITHDRAWN)


@ON_POSTGRESQL
@pytest.mark.parametrize("veto_first", [True, False])
async def test_no_task_of_a_vetoed_prompt_is_added_beside_its_veto(
    veto_first: bool, database: Database
) -> None:
    fill(database, ranking_task("a"))
    add: Act = lambda session: add_tasks(session, "q", [replace(ranking_task("a"), id="b")], now=NOW)  # noqa: E731
    await beside(database, *((veto(), add) if veto_first else (add, veto())))
    states = database.read_now(lambda session: session.scalars(select(Task.state)).all())
    assert set(states) == {TaskState.WITHDRAWN}


@ON_POSTGRESQL
@pytest.mark.parametrize("exclusion_first", [True, False])
async def test_what_is_imported_beside_an_exclusion_does_not_count(
    exclusion_first: bool, database: Database
) -> None:
    fill(database)
    database.write_now(import_by("Ann", "a"))
    rater = database.read_now(lambda session: session.scalars(select(Rater.id)).one())
    acts = [exclude(rater), import_by("Ann", "b")]
    await beside(database, *(acts if exclusion_first else reversed(acts)))
    assert database.read_now(lambda session: session.scalars(select(Submission.counts)).all()) == [False] * 2


def test_what_was_said_of_a_vetoed_prompt_is_no_progress(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    answer(database, rater, claim(database, rater))
    assert database.read_now(progress, "q").rankings == 1
    database.write_now(veto())
    assert database.read_now(progress, "q").rankings == 0
