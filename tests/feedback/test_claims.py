"""Who gets which task. The same tests on SQLite and on a real PostgreSQL."""

import asyncio
from dataclasses import fields

import pytest
from sqlalchemy import func, select

from pilothouse.errors import LeaseLostError, NoTaskError, NotFoundError
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import claims, submissions
from pilothouse.feedback.store.submissions import RankingContent, Said, SkipContent
from pilothouse.feedback.store.tasks import set_priorities
from pilothouse.feedback.tables import Assignment, Submission, Task

from .conftest import NOW, fill, ranking_task, raters

LEASE = 60


def claim(database: Database, rater: str, now: float = NOW, queue: str = "q") -> claims.Held:
    return database.write_now(claims.claim, queue=queue, rater=rater, lease_seconds=LEASE, now=now)


def said_of(rater: str, held: claims.Held) -> Said:
    ranks = tuple(range(1, len(held.answers) + 1))
    return Said(id=f"said-{held.id}", assignment=held.id, rater=rater, content=RankingContent(ranks=ranks))


def answer(database: Database, rater: str, held: claims.Held, now: float = NOW) -> bool:
    return database.write_now(submissions.submit, said_of(rater, held), now=now)


def skip(database: Database, rater: str, held: claims.Held, now: float = NOW) -> bool:
    said = Said(id=f"skip-{held.id}", assignment=held.id, rater=rater, content=SkipContent(reason="unclear"))
    return database.write_now(submissions.submit, said, now=now)


def counts(database: Database) -> dict[str, tuple[int, int, str]]:
    return database.read_now(
        lambda session: {
            task.id: (task.taken, task.answered, task.state) for task in session.scalars(select(Task))
        }
    )


def test_a_rater_keeps_the_task_that_was_claimed(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b"))
    [rater] = raters(database, 1)
    first, again = claim(database, rater), claim(database, rater, now=NOW + 5)
    assert (first.id, first.task) == (again.id, again.task)
    assert again.lease_expires_at == NOW + 5 + LEASE
    assert [a.text for a in first.answers] == [a.text for a in again.answers]


def test_the_highest_priority_goes_first_and_then_the_oldest(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b", priority=2.0), ranking_task("c"))
    database.write_now(set_priorities, {"c": 1.0, "unknown": 9.0})
    [rater] = raters(database, 1)
    seen = []
    for _ in range(3):
        held = claim(database, rater)
        seen.append(held.task)
        answer(database, rater, held)
    assert seen == ["b", "c", "a"]
    with pytest.raises(NoTaskError):
        claim(database, rater)


def test_answers_come_in_an_order_of_the_raters_own_and_without_their_source(database: Database) -> None:
    fill(database, ranking_task("a", answers=9), overlap=30)
    shown = [claim(database, rater).answers for rater in raters(database, 30)]
    assert len({tuple(answer.text for answer in answers) for answers in shown}) > 20
    assert {field.name for field in fields(shown[0][0])} == {"id", "text"}


def test_overlap_is_exact(database: Database) -> None:
    fill(database, ranking_task("a"), overlap=2)
    people_ = raters(database, 3)
    held = [claim(database, rater) for rater in people_[:2]]
    with pytest.raises(NoTaskError):
        claim(database, people_[2])
    for rater, task in zip(people_, held, strict=False):
        answer(database, rater, task)
    assert counts(database) == {"a": (2, 2, "done")}


def test_a_skip_frees_the_place_for_others_but_not_for_the_rater(database: Database) -> None:
    fill(database, ranking_task("a"))
    one, other = raters(database, 2)
    skip(database, one, claim(database, one))
    with pytest.raises(NoTaskError):
        claim(database, one)
    assert claim(database, other).task == "a"


def test_an_expired_lease_goes_to_the_next_rater_and_a_late_answer_is_refused(database: Database) -> None:
    fill(database, ranking_task("a"))
    slow, quick = raters(database, 2)
    held = claim(database, slow)
    later = NOW + LEASE + 1
    assert claim(database, quick, now=later).task == "a"
    with pytest.raises(LeaseLostError, match="somebody else"):
        answer(database, slow, held, now=later)
    assert counts(database)["a"][0] == 1


def test_a_late_answer_counts_while_the_place_is_free(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b"))
    slow, quick = raters(database, 2)
    held = claim(database, slow)
    claim(database, quick, now=NOW + LEASE + 1)  # expires the first lease and takes the same task
    database.write_now(claims.release, assignment=claim(database, quick, now=NOW + LEASE + 1).id, rater=quick)
    assert answer(database, slow, held, now=NOW + LEASE + 2)
    assert counts(database)["a"] == (1, 1, "done")


def test_a_released_task_comes_back_in_the_same_order(database: Database) -> None:
    fill(database, ranking_task("a", answers=9))
    [rater] = raters(database, 1)
    held = claim(database, rater)
    database.write_now(claims.release, assignment=held.id, rater=rater)
    assert counts(database)["a"] == (0, 0, "open")
    assert claim(database, rater).answers == held.answers


def test_gold_tasks_come_in_between_and_never_fill_up(database: Database) -> None:
    gold = [ranking_task(f"g{n}", gold_ranks=(1, 2, 3, 4)) for n in range(5)]
    plain = [ranking_task(f"p{n}") for n in range(200)]
    fill(database, *gold, *plain, gold_every=4, overlap=1)
    for rater in raters(database, 4):
        seen = []
        for _ in range(25):
            held = claim(database, rater)
            seen.append(held.task)
            answer(database, rater, held)
        assert len(set(seen)) == 25
        assert 1 <= sum(name.startswith("g") for name in seen) <= 5


def test_a_larger_overlap_opens_tasks_again(database: Database) -> None:
    fill(database, ranking_task("a"))
    one, other = raters(database, 2)
    answer(database, one, claim(database, one))
    fill(database, overlap=2)
    assert claim(database, other).task == "a"


def test_a_strangers_assignment_cannot_be_told_from_none(database: Database) -> None:
    fill(database, ranking_task("a"))
    one, other = raters(database, 2)
    held = claim(database, one)
    with pytest.raises(NotFoundError) as stranger:
        answer(database, other, held)
    with pytest.raises(NotFoundError) as nothing:
        database.write_now(claims.release, assignment="nothing", rater=other)
    assert str(stranger.value).replace(held.id, "?") == str(nothing.value).replace("nothing", "?")


@pytest.mark.heavy
async def test_ten_thousand_concurrent_claims_leave_exactly_the_overlap(database: Database) -> None:
    """Every place of every task is answered once: no extra response, none lost."""
    tasks, overlap, crowd = 500, 3, 40
    fill(database, *(ranking_task(f"t{n}", answers=2) for n in range(tasks)), overlap=overlap)
    asked = 0

    async def work(rater: str) -> None:
        nonlocal asked
        for number in range(10_000 // crowd):
            asked += 1
            try:
                held = await database.write(
                    claims.claim, queue="q", rater=rater, lease_seconds=LEASE, now=NOW
                )
            except NoTaskError:
                continue
            if number % 5 == 4:
                await database.write(claims.release, assignment=held.id, rater=rater)
            else:
                await database.write(submissions.submit, said_of(rater, held), now=NOW)

    await asyncio.gather(*(work(rater) for rater in raters(database, crowd)))
    assert asked == 10_000
    assert set(counts(database).values()) == {(overlap, overlap, "done")}

    def stored(session: object) -> tuple[int, int]:
        rows = session.execute(  # type: ignore[attr-defined]
            select(func.count(), func.count(func.distinct(Submission.assignment_id)))
        ).one()
        return rows[0], rows[1]

    assert database.read_now(stored) == (tasks * overlap, tasks * overlap)
    doubled = database.read_now(
        lambda session: session.execute(
            select(Assignment.task_number, Assignment.rater_id)
            .group_by(Assignment.task_number, Assignment.rater_id)
            .having(func.count() > 1)
        ).all()
    )
    assert doubled == []
