"""What is left of a person who was erased: what was said, and nothing that leads to who said it."""

import json
from collections.abc import Iterator
from io import BytesIO

import pyarrow.parquet as arrow_parquet
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from pilothouse.errors import NotFoundError, RaterBarredError
from pilothouse.feedback.database import Database
from pilothouse.feedback.formats.argilla import user_id
from pilothouse.feedback.formats.exporting import export
from pilothouse.feedback.formats.options import ExportOptions, FileFormat, Format
from pilothouse.feedback.records import DemonstrationRecord, PromptRecord, RankingRecord
from pilothouse.feedback.store import claims, people, queues, reading, submissions
from pilothouse.feedback.store.queues import QueueSettings
from pilothouse.feedback.store.submissions import DemonstrationContent, RankingContent, Said
from pilothouse.feedback.store.tasks import TaskRecord, add_tasks
from pilothouse.feedback.tables import Base, Event, Invite, Kind, RaterState, Task

from .conftest import NOW, fill, ranking_task, raters
from .test_claims import LEASE, answer, claim, counts

SECONDS = 41.625
Records = tuple[list[RankingRecord], list[DemonstrationRecord]]


def work(database: Database, rater: str, began: float, remark: str) -> None:
    """Ranks every task of ``q`` alike, mends an answer of each, and writes one answer in ``write``."""
    for number in range(4):
        held = claim(database, rater, now=began + number)
        ranks = tuple(int(shown.text.split()[1]) + 1 for shown in held.answers)
        content = RankingContent(ranks=ranks, corrections={ranks.index(9): "a better one"})
        say(database, rater, held, content, began + number, remark)
    held = claim(database, rater, now=began + 4, queue="write")
    say(database, rater, held, DemonstrationContent(text="You did well."), began + 4, remark)


def say(
    database: Database,
    rater: str,
    held: claims.Held,
    content: RankingContent | DemonstrationContent,
    now: float,
    remark: str,
) -> None:
    said = Said(
        id=f"said-{held.id}",
        assignment=held.id,
        rater=rater,
        content=content,
        comment=remark,
        seconds=SECONDS if remark else 7.0,
    )
    assert database.write_now(submissions.submit, said, now=now)


def records(database: Database) -> Records:
    return database.read_now(
        lambda session: (list(reading.rankings(session)), list(reading.demonstrations(session)))
    )


def exports(found: Records) -> Iterator[str]:
    """Yields everything that any export says, as text."""
    for format in Format:
        for file_format in FileFormat:
            if format.is_json and file_format is FileFormat.PARQUET:
                continue
            exported = export(*found, ExportOptions(format=format, file_format=file_format))
            yield exported.manifest
            for file in exported.files:
                content = b"".join(file.chunks)
                if file.name.endswith(".parquet"):
                    rows = arrow_parquet.read_table(BytesIO(content)).to_pylist()
                    yield json.dumps(rows, separators=(",", ":"))
                else:
                    yield content.decode()


def stored(database: Database, *only: type[Base]) -> str:
    """Everything in the database, or in some tables."""

    def read(session: Session) -> str:
        tables = [table.__table__ for table in only] or Base.metadata.sorted_tables
        return "\n".join(str(tuple(row)) for table in tables for row in session.execute(select(table)))

    return database.read_now(read)


@pytest.fixture
def crowd(database: Database) -> list[str]:
    """Three people who say the same, Ada among them: what they say tells nobody apart."""
    fill(database, *(ranking_task(f"t{number}", answers=9) for number in range(4)), overlap=3)
    write = QueueSettings(name="write", kind=Kind.DEMONSTRATION, overlap=3)
    database.write_now(queues.put_queue, write, now=NOW)
    task = TaskRecord(id="w", prompt=PromptRecord(text="Say something kind."))
    database.write_now(add_tasks, "write", [task], now=NOW)
    token = database.write_now(people.create_invite, admin=False, valid_seconds=9, actor="", now=NOW)
    ada = database.write_now(people.register, token=token, name="Ada", password_hash="?", now=NOW)
    database.write_now(people.open_session, ada, now=NOW)
    everyone = [ada, *raters(database, 2)]
    for number, rater in enumerate(everyone):
        work(database, rater, NOW + 1000.25 * (number + 1), "signed, Ada" if rater == ada else "")
    return everyone


def test_nothing_links_later_exports_to_earlier_ones_in_any_format(
    database: Database, crowd: list[str]
) -> None:
    before = records(database)
    [pseudonym] = {record.rater for record in before[0] if record.comment}
    hers = [record for part in before for record in part if record.rater == pseudonym]
    traces = {pseudonym, user_id(pseudonym), "signed, Ada", str(SECONDS)}
    traces |= {record.id for record in hers} | {str(record.submitted_at) for record in hers}
    traces |= {
        json.dumps(record.order, separators=(",", ":"))
        for record in hers
        if isinstance(record, RankingRecord)
    }
    shown = "\n".join(exports(before))
    assert all(trace in shown for trace in traces)
    assert database.write_now(people.erase, crowd[0], actor="", now=NOW) == 4
    after = records(database)
    told = "\n".join(exports(after))
    assert [trace for trace in traces if trace in told] == []
    assert "Collected from 1970-01-12 to 1970-01-12." in told

    def contents(found: Records) -> list[tuple[str, object]]:
        return sorted(
            [(record.task, record.ranks) for record in found[0]]
            + [(record.task, (record.text, record.corrects)) for record in found[1]],
            key=str,
        )

    assert contents(before) == contents(after)
    assert len({record.rater for record in after[0]}) == 3


def test_nothing_in_the_database_leads_from_the_new_pseudonym_to_the_person(
    database: Database, crowd: list[str]
) -> None:
    """What is left of the rater's id is the row's key: neither log nor invitation tells whose it was."""
    ada = database.read_now(people.get_person, crowd[0])
    database.write_now(people.set_state, ada.id, RaterState.DISABLED, actor="", now=NOW)
    database.write_now(people.create_invite, admin=False, valid_seconds=9, actor=ada.id, now=NOW)
    times = [str(NOW + 1000.25 + number) for number in range(5)]
    traces = [ada.name, ada.pseudonym, str(SECONDS), "said-", *times]
    assert all(trace in stored(database) for trace in traces)
    assert f"'{ada.id}'" in stored(database, Event, Invite)
    for rater in crowd:
        database.write_now(people.erase, rater, actor="", now=NOW)
    assert [trace for trace in traces if trace in stored(database)] == []
    assert f"'{ada.id}'" not in stored(database, Event, Invite)


def test_an_erased_person_may_not_work_and_leaves_no_lease(database: Database) -> None:
    fill(database, ranking_task("a"), ranking_task("b"), ranking_task("c"))
    token = database.write_now(people.create_invite, admin=False, valid_seconds=9, actor="", now=NOW)
    rater = database.write_now(people.register, token=token, name="Ada", password_hash="?", now=NOW)
    said = claim(database, rater)
    answer(database, rater, said)
    database.write_now(claims.release, assignment=claim(database, rater).id, rater=rater)
    held = claim(database, rater)
    for _ in range(2):  # twice is no error
        assert database.write_now(people.erase, rater, actor="", now=NOW) == 1
    assert counts(database) == {"a": (1, 1, "done"), "b": (0, 0, "open"), "c": (0, 0, "open")}
    undo = {"undo_seconds": 120, "lease_seconds": LEASE, "now": NOW}
    for act in (
        lambda: claim(database, rater),
        lambda: answer(database, rater, held),
        lambda: answer(database, rater, said),
        lambda: database.write_now(submissions.undo, submission=f"said-{said.id}", rater=rater, **undo),
    ):
        with pytest.raises(RaterBarredError):
            act()
    with pytest.raises(NotFoundError, match="invitation"):
        database.write_now(people.register, token=token, name="Eve", password_hash="?", now=NOW)


@pytest.mark.parametrize("state", [RaterState.ACTIVE, RaterState.EXCLUDED])
def test_what_did_not_count_does_not_count_under_the_new_pseudonym(
    database: Database, state: RaterState
) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    answer(database, rater, claim(database, rater))
    database.write_now(people.set_state, rater, state, actor="", now=NOW)
    database.write_now(people.erase, rater, actor="", now=NOW)
    [heir] = database.read_now(people.list_people)
    counted = state == RaterState.ACTIVE
    assert heir.state == (RaterState.DISABLED if counted else RaterState.EXCLUDED)
    assert len(records(database)[0]) == counted
    answered = database.read_now(lambda session: session.scalars(select(Task.answered)).one())
    assert answered == counted
