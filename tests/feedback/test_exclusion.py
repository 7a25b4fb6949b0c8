"""What becomes of places and answers when raters are kept out, let in again, or take something back."""

import pytest

from pilothouse.errors import NoTaskError, RaterBarredError, UndoTooLateError
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import adjustments, claims, people, submissions
from pilothouse.feedback.store.adjustments import Adjustment
from pilothouse.feedback.tables import RaterState

from .conftest import NOW, fill, ranking_task, raters
from .test_claims import LEASE, answer, claim, counts, skip


def undo(
    database: Database, rater: str, held: claims.Held, what: str = "said", now: float = NOW
) -> claims.Held:
    return database.write_now(
        submissions.undo,
        submission=f"{what}-{held.id}",
        rater=rater,
        undo_seconds=120,
        lease_seconds=LEASE,
        now=now,
    )


def test_an_excluded_raters_places_are_free_again(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b"))
    bad, good = raters(database, 2)
    answer(database, bad, claim(database, bad))
    claim(database, bad)
    database.write_now(people.set_state, bad, RaterState.EXCLUDED, actor="", now=NOW)
    assert counts(database) == {"a": (0, 0, "open"), "b": (0, 0, "open")}
    with pytest.raises(RaterBarredError):
        claim(database, bad)
    answer(database, good, claim(database, good))
    database.write_now(people.set_state, bad, RaterState.ACTIVE, actor="", now=NOW)
    assert counts(database)["a"] == (1, 1, "done")


@pytest.mark.parametrize("state", [RaterState.EXCLUDED, RaterState.DISABLED])
def test_a_rater_who_may_not_work_takes_nothing_back_and_holds_nothing(
    database: Database, state: RaterState
) -> None:
    fill(database, ranking_task("a"), ranking_task("b"))
    bad, good = raters(database, 2)
    said = claim(database, bad)
    answer(database, bad, said)
    held = claim(database, bad)
    database.write_now(people.set_state, bad, state, actor="", now=NOW)
    for act in (
        lambda: undo(database, bad, said),
        lambda: answer(database, bad, held),
        lambda: database.write_now(claims.renew, assignment=held.id, rater=bad, lease_seconds=LEASE, now=NOW),
    ):
        with pytest.raises(RaterBarredError, match=state):
            act()
    left = ["a", "b"] if state == RaterState.EXCLUDED else []
    for task in left:
        found = claim(database, good)
        assert found.task == task
        answer(database, good, found)
    with pytest.raises(NoTaskError):
        claim(database, good)


def test_a_submission_that_is_stored_stays_acknowledged_when_its_rater_is_barred(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    held = claim(database, rater)
    assert answer(database, rater, held)
    database.write_now(people.set_state, rater, RaterState.DISABLED, actor="", now=NOW)
    assert not answer(database, rater, held)


def test_what_counts_no_more_is_taken_back_only_while_its_place_is_free(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b"))
    one, other = raters(database, 2)
    lost = claim(database, one)
    answer(database, one, lost)
    database.write_now(people.set_state, one, RaterState.EXCLUDED, actor="", now=NOW)
    answer(database, other, claim(database, other))
    database.write_now(people.set_state, one, RaterState.ACTIVE, actor="", now=NOW)
    with pytest.raises(UndoTooLateError, match="somebody else"):
        undo(database, one, lost)
    assert counts(database)["a"] == (1, 1, "done")
    fill(database, overlap=2)
    kept = undo(database, one, lost)
    assert counts(database)["a"] == (2, 1, "full")
    answer(database, one, kept)
    assert counts(database)["a"] == (2, 2, "done")


def test_a_skip_is_taken_back_only_while_its_place_is_free(database: Database) -> None:
    fill(database, ranking_task("a"))
    one, other = raters(database, 2)
    skipped = claim(database, one)
    skip(database, one, skipped)
    held = claim(database, other)
    with pytest.raises(UndoTooLateError, match="somebody else"):
        undo(database, one, skipped, "skip")
    assert counts(database)["a"] == (1, 0, "full")
    database.write_now(claims.release, assignment=held.id, rater=other)
    assert undo(database, one, skipped, "skip").id == skipped.id
    assert counts(database)["a"] == (1, 0, "full")


def test_a_veto_between_exclusion_and_readmission_costs_no_answer(database: Database) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    answer(database, rater, claim(database, rater))
    database.write_now(people.set_state, rater, RaterState.EXCLUDED, actor="", now=NOW)
    for lift in (False, True):
        database.write_now(adjustments.adjust_prompt, "a", Adjustment.VETO, lift=lift, now=NOW)
        if not lift:
            database.write_now(people.set_state, rater, RaterState.ACTIVE, actor="", now=NOW)
    assert counts(database)["a"] == (1, 1, "done")


def test_a_task_with_answers_enough_stays_done_without_an_excluded_raters(database: Database) -> None:
    fill(database, ranking_task("a"), overlap=2)
    bad, good = raters(database, 2)
    for rater in (bad, good):
        answer(database, rater, claim(database, rater))
    fill(database, overlap=1)
    database.write_now(people.set_state, bad, RaterState.EXCLUDED, actor="", now=NOW)
    assert counts(database)["a"] == (1, 1, "done")
