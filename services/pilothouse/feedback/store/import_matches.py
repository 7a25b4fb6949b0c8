"""What of an import is in the database already: raters, judgements, corrections."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from pilothouse.errors import InvalidDataError
from pilothouse.feedback.formats.argilla import user_id
from pilothouse.feedback.formats.imported import ImportedRanking, content_digest
from pilothouse.feedback.formats.judged import dense
from pilothouse.feedback.store.people import add_rater
from pilothouse.feedback.store.reading import prompt_record
from pilothouse.feedback.store.tasks import parts
from pilothouse.feedback.tables import (
    Answer,
    Assignment,
    Demonstration,
    Rater,
    RaterState,
    Submission,
    Task,
)

_IMPORTED = " (imported)"
_NAMELESS = re.compile(r"imported-\d+ \(imported\)")


class Raters:
    """Everybody by what a file may say: pseudonym, its UUID of Argilla, or name of an earlier import."""

    def __init__(self, session: Session, now: float) -> None:
        self._session, self._now = session, now
        self._ids: dict[str, str] = {}
        self._excluded: set[str] = set()
        self._nameless: set[str] = set()
        rows = session.execute(select(Rater.id, Rater.name, Rater.pseudonym, Rater.state)).all()
        for id, name, _, state in rows:
            if name and name.endswith(_IMPORTED):
                self._ids[name.removesuffix(_IMPORTED)] = id
            if name and _NAMELESS.fullmatch(name):
                self._nameless.add(id)
            if state == RaterState.EXCLUDED:
                self._excluded.add(id)
        for id, _, pseudonym, _ in rows:
            self._ids[pseudonym] = self._ids[user_id(pseudonym)] = id

    def hold(self, names: Iterable[str]) -> None:
        """Locks those who are called so, and reads anew whose work counts."""
        for part in parts(sorted({id for name in names if (id := self.find(name))})):
            rows = self._session.execute(
                select(Rater.id, Rater.state)
                .where(Rater.id.in_(part))
                .order_by(Rater.id)
                .with_for_update(key_share=True)
            )
            self._excluded -= {*part}
            self._excluded |= {id for id, state in rows if state == RaterState.EXCLUDED}

    def find(self, name: str) -> str | None:
        """Returns the id of whom a file calls so; None for nobody yet."""
        return self._ids.get(name)

    def get(self, name: str) -> str:
        """Returns the id of whom a file calls so: a rater without a password where it was nobody yet."""
        if name not in self._ids:
            self._ids[name] = add_rater(self._session, name=f"{name}{_IMPORTED}", now=self._now)
        return self._ids[name]

    def counts(self, rater: str) -> bool:
        """Returns whether the work of a rater counts."""
        return rater not in self._excluded

    def is_nameless(self, rater: str) -> bool:
        """Returns whether it is a rater whom no file has named."""
        return rater in self._nameless


@dataclass(slots=True)
class Held:
    """A rater's hold on a task."""

    assignment: Assignment
    submission: str | None
    """Id; None where nothing was said yet."""
    ranks: tuple[int, ...]
    """By position of the task; empty unless ranked."""
    place: str = ""
    """Where in the file it stands; empty where it was stored before."""


class Judgements:
    """What raters have said of some tasks, by task and rater and by id of the submission."""

    def __init__(self, session: Session, tasks: Iterable[Task], raters: Raters) -> None:
        self._held: dict[tuple[int, str], Held] = {}
        self._by_id: dict[str, tuple[int, Held]] = {}
        self._nameless: Counter[tuple[int, tuple[int, ...]]] = Counter()
        for part in parts([task.number for task in tasks]):
            rows = session.execute(
                select(Assignment, Submission.id, Submission.ranks)
                .outerjoin(Submission, Submission.assignment_id == Assignment.id)
                .where(Assignment.task_number.in_(part))
            )
            for assignment, submission, ranks in rows:
                held = Held(assignment, submission, tuple(ranks or ()))
                self.add(assignment.task_number, assignment.rater_id, held)
                if raters.is_nameless(assignment.rater_id):
                    self._nameless[assignment.task_number, held.ranks] += 1

    def add(self, task: int, rater: str, held: Held) -> None:
        """Takes note of a judgement."""
        self._held[task, rater] = held
        if held.submission is not None:
            self._by_id[held.submission] = task, held

    def get(self, task: Task, rater: str) -> Held | None:
        """Returns a rater's hold on a task; None where there is none."""
        return self._held.get((task.number, rater))

    def knows(self, task: Task, ranking: ImportedRanking, rater: str | None) -> bool:
        """Returns whether the ranking is there: under its id, or as the rater's of the task.

        Args:
            task: What is ranked.
            ranking: What the file says.
            rater: Id; None for somebody new.

        Raises:
            InvalidDataError: The rater said something else.
        """
        found = self._held.get((task.number, rater)) if rater else None
        if ranking.record in self._by_id and self._by_id[ranking.record][0] == task.number:
            found = self._by_id[ranking.record][1]
        if found is None or found.submission is None:
            return False
        if not _same(task, found.ranks, ranking):
            where = found.place or "what is stored"
            did = "ranked these answers otherwise" if found.ranks else "skipped this task"
            raise InvalidDataError(
                f"{ranking.place}: rater '{ranking.rater}' has {did} ({where}), and a rater answers a task "
                "once; leave one of the two out, or name another rater"
            )
        return True

    def knows_nameless(self, task: Task, ranking: ImportedRanking) -> bool:
        """Returns whether one more of these rankings without a rater came in before; each is found once."""
        key = task.number, ranks_of(task, ranking)
        self._nameless[key] -= 1
        return self._nameless[key] >= 0

    def free_name(self, task: Task, raters: Raters) -> str:
        """Returns the first of `imported-1`, `imported-2`, ... who has no hold on the task."""
        names = (f"imported-{number}" for number in count(1))
        return next(name for name in names if (task.number, raters.find(name)) not in self._held)


def known_corrections(session: Session, queue: str, rankings: Sequence[ImportedRanking]) -> set[str]:
    """Returns the ids of those rankings that an export of this queue made from a corrected answer."""
    wanted = {ranking.record: ranking.content for ranking in rankings if ranking.record}
    found = set()
    for part in parts(list(wanted)):
        rows = session.execute(
            select(Demonstration, Answer, Task)
            .join(Demonstration.submission)
            .join(Submission.task)
            .join(Answer, Demonstration.corrects == Answer.id)
            .where(Demonstration.id.in_(part), Task.queue_name == queue)
            .options(joinedload(Task.prompt))
        )
        for written, answer, task in rows:
            content = content_digest(prompt_record(task.prompt), [written.text, answer.text])
            if content == wanted[written.id]:
                found.add(written.id)
    return found


def ranks_of(task: Task, ranking: ImportedRanking) -> tuple[int, ...]:
    """Returns the ranks by position of the task."""
    by_text = {answer.text: rank for answer, rank in zip(ranking.answers, ranking.ranks, strict=True)}
    return tuple(by_text[answer.text] for answer in task.answers)


def _same(task: Task, stored: tuple[int, ...], ranking: ImportedRanking) -> bool:
    """Returns whether a ranking says what is stored, as it was said or as exports tell it, vetoes applied."""
    said = ranks_of(task, ranking)
    if not stored or said == stored:
        return bool(stored)
    last = max(stored) + 1
    told = [last if answer.vetoed else rank for rank, answer in zip(stored, task.answers, strict=True)]
    return said == dense(told)
