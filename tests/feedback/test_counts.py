"""Places and answers add up, whoever does what in which order. On SQLite and on a real PostgreSQL."""

import itertools
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pilothouse.errors import PilothouseError, RaterBarredError
from pilothouse.feedback.database import Database
from pilothouse.feedback.store import adjustments, claims, people, submissions
from pilothouse.feedback.store.adjustments import Adjustment
from pilothouse.feedback.store.submissions import RankingContent, Said, SkipContent
from pilothouse.feedback.tables import Assignment, AssignmentState, RaterState, Submission, Task

from .conftest import NOW, fill, ranking_task, raters

OVERLAP, LEASE, UNDO = 2, 60, 120
_NUMBERS = itertools.count()
RATERS = st.integers(0, 3)
STATES = st.sampled_from([RaterState.ACTIVE, RaterState.DISABLED, RaterState.EXCLUDED])


class Crowd(RuleBasedStateMachine):
    """Four raters, two tasks of overlap 2 and a gold one, in a queue of their own."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database, self.now, self.queue = database, NOW, f"q{next(_NUMBERS)}"
        self.raters = raters(database, 4)
        self.held: dict[int, list[str]] = {}
        self.said: dict[int, list[str]] = {}
        names = [f"{self.queue}-{name}" for name in ("a", "b", "gold")]
        tasks = [ranking_task(name, answers=2) for name in names[:2]]
        gold = ranking_task(names[2], answers=2, gold_ranks=(1, 2))
        fill(database, *tasks, gold, queue=self.queue, overlap=OVERLAP, gold_every=3)
        self.task = names[0]

    def attempt(self, function: object, *args: object, **more: object) -> object:
        """Does it, or is refused; a rater who may not work is refused always."""
        rater = more.get("rater")
        barred = rater is not None and not self.works(rater)
        with suppress(PilothouseError) if not barred else pytest.raises(RaterBarredError):
            return self.database.write_now(function, *args, **more)  # type: ignore[arg-type]
        return None

    def works(self, rater: object) -> bool:
        found = self.database.read_now(people.list_people)
        return any(person.id == rater and person.state == RaterState.ACTIVE for person in found)

    @rule(who=RATERS)
    def claim(self, who: int) -> None:
        held = self.attempt(
            claims.claim, queue=self.queue, rater=self.raters[who], lease_seconds=LEASE, now=self.now
        )
        if isinstance(held, claims.Held):
            self.held.setdefault(who, []).append(held.id)

    @rule(who=RATERS, which=st.integers(0, 5))
    def renew(self, who: int, which: int) -> None:
        if held := self.held.get(who):
            assignment = held[which % len(held)]
            more = {"rater": self.raters[who], "lease_seconds": LEASE, "now": self.now}
            self.attempt(claims.renew, assignment=assignment, **more)

    @rule(who=RATERS, which=st.integers(0, 5))
    def release(self, who: int, which: int) -> None:
        if held := self.held.get(who):
            assignment = held[which % len(held)]
            self.database.write_now(claims.release, assignment=assignment, rater=self.raters[who])

    @rule(who=RATERS, which=st.integers(0, 5), skip=st.booleans())
    def submit(self, who: int, which: int, skip: bool) -> None:
        if held := self.held.get(who):
            content = SkipContent(reason="equal") if skip else RankingContent(ranks=(1, 2))
            said = Said(
                id=f"said-{next(_NUMBERS)}",
                assignment=held[which % len(held)],
                rater=self.raters[who],
                content=content,
            )
            barred = not self.works(said.rater)
            stored = self.attempt(submissions.submit, said, now=self.now)
            assert not (stored and barred)
            if stored:
                self.said.setdefault(who, []).append(said.id)

    @rule(who=RATERS, which=st.integers(0, 5))
    def undo(self, who: int, which: int) -> None:
        if said := self.said.get(who):
            submission = said[which % len(said)]
            times = {"undo_seconds": UNDO, "lease_seconds": LEASE, "now": self.now}
            if self.attempt(submissions.undo, submission=submission, rater=self.raters[who], **times):
                said.remove(submission)

    @rule(who=RATERS, state=STATES)
    def set_state(self, who: int, state: RaterState) -> None:
        self.database.write_now(people.set_state, self.raters[who], state, actor="", now=self.now)

    @rule(who=RATERS)
    def erase(self, who: int) -> None:
        """A nameless rater may be let in again; what was held and said before is beyond reach."""
        self.database.write_now(people.erase, self.raters[who], actor="", now=self.now)

    @rule(lift=st.booleans())
    def veto(self, lift: bool) -> None:
        self.database.write_now(
            adjustments.adjust_prompt, self.task, Adjustment.VETO, lift=lift, now=self.now
        )

    @rule()
    def wait(self) -> None:
        self.now += LEASE + 1

    @invariant()
    def counts_are_exact(self) -> None:
        self.database.read_now(self._check)

    def _check(self, session: Session) -> None:
        answered = _count(session, Submission, Submission.kind != "skip", Submission.counts)
        leased = _count(session, Assignment, Assignment.state == AssignmentState.LEASED)
        for task in session.scalars(select(Task).where(Task.queue_name == self.queue)):
            assert task.answered == answered[task.number]
            assert task.taken == answered[task.number] + leased[task.number]
            assert task.is_gold or task.taken <= OVERLAP
            if task.state != "withdrawn":
                full = "done" if task.answered == OVERLAP else "full"
                assert task.state == ("open" if task.is_gold or task.taken < OVERLAP else full)


def _count(session: Session, table: type[Submission] | type[Assignment], *conditions: object) -> Counter[int]:
    rows = select(table.task_number, func.count()).where(*conditions).group_by(table.task_number)  # type: ignore[arg-type]
    return Counter(dict(session.execute(rows).tuples().all()))


def test_counts_are_exact_after_every_step_in_any_order(database: Database) -> None:
    run_state_machine_as_test(
        lambda: Crowd(database),
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
