"""What the store gives to exports and counts as progress, and with which weight it goes out."""

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pilothouse.client import FeedbackAnswer, FeedbackClient, FeedbackTask, QueueSettings, Ranking
from pilothouse.feedback.database import Database
from pilothouse.feedback.formats.exporting import export
from pilothouse.feedback.formats.options import ExportOptions, Format
from pilothouse.feedback.store import adjustments, people, reading, submissions
from pilothouse.feedback.store.adjustments import Adjustment
from pilothouse.feedback.store.progress import Progress, progress
from pilothouse.feedback.store.submissions import RankingContent, Said
from pilothouse.feedback.tables import RaterState

from .conftest import NOW, fill, ranking_task, raters
from .serving import process
from .test_claims import answer, claim, counts


def mend(database: Database, rater: str, queue: str = "q") -> None:
    """Ranks the next task and mends its first answer."""
    held = claim(database, rater, queue=queue)
    content = RankingContent(ranks=(1, 2, 3, 4), corrections={0: "better"})
    said = Said(id=f"said-{held.id}", assignment=held.id, rater=rater, content=content)
    database.write_now(submissions.submit, said, now=NOW)


def test_gold_tasks_measure_people_and_are_no_data(database: Database) -> None:
    fill(database, ranking_task("gold", gold_ranks=(1, 2, 3, 4)), gold_every=1)
    fill(database, ranking_task("a"), queue="ordinary")
    everyone = raters(database, 5)
    for rater in everyone:
        mend(database, rater)
    mend(database, everyone[0], queue="ordinary")
    assert database.read_now(progress, "q") == Progress(rankings=0, demonstrations=0, open_tasks=0)
    assert database.read_now(progress) == Progress(rankings=1, demonstrations=1, open_tasks=0)
    rankings, demonstrations = database.read_now(
        lambda session: (list(reading.rankings(session)), list(reading.demonstrations(session)))
    )
    assert len(rankings) == 6  # the measures read all of them
    for format in (Format.RANKING, Format.DEMONSTRATION):
        exported = export(rankings, demonstrations, ExportOptions(format=format))
        rows = [json.loads(line) for line in exported.files[0].chunks[0].splitlines()]
        assert {row["task"] for row in rows} == {"a"}


@pytest.mark.parametrize("state", RaterState)
def test_what_an_excluded_rater_wrote_goes_nowhere(database: Database, state: RaterState) -> None:
    fill(database, ranking_task("a"))
    [rater] = raters(database, 1)
    mend(database, rater)
    database.write_now(people.set_state, rater, state, actor="", now=NOW)
    kept = int(state != RaterState.EXCLUDED)
    found = database.read_now(lambda session: list(reading.demonstrations(session)))
    assert len(found) == kept
    assert database.read_now(progress).demonstrations == kept


def test_a_veto_that_is_lifted_leaves_every_task_as_its_counts_say(database: Database) -> None:
    """The same prompt in three tasks: answered, held, and open."""
    fill(database, *(replace(ranking_task("a"), id=name) for name in "abc"))
    one, other = raters(database, 2)
    answer(database, one, claim(database, one))
    claim(database, other)
    before = counts(database)
    assert {name: state for name, (_, _, state) in before.items()} == {"a": "done", "b": "full", "c": "open"}
    database.write_now(adjustments.adjust_prompt, "a", Adjustment.VETO, lift=False, now=NOW)
    assert {state for _, _, state in counts(database).values()} == {"withdrawn"}
    database.write_now(adjustments.adjust_prompt, "c", Adjustment.VETO, lift=True, now=NOW)
    assert counts(database) == before


def test_rankings_and_corrections_go_out_with_the_weight_of_their_rater(tmp_path: Path) -> None:
    """Two who agree are believed more than a third, who is of another mind every other time."""
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q", overlap=3))
        feedback.add_tasks(
            "q",
            [
                FeedbackTask(
                    id=f"t{number}", prompt=f"p{number}", answers=[FeedbackAnswer(text=a) for a in "abc"]
                )
                for number in range(12)
            ],
        )
        for name in ("Ada", "Bob", "Cy"):
            rater = feedback.add_rater(name)
            for number in range(12):
                held = feedback.claim("q", rater)
                ranks = ["abc".index(shown.text) + 1 for shown in held.answers]
                if name == "Cy" and number % 2:
                    ranks = [4 - rank for rank in ranks]
                ranking = Ranking(ranks=ranks, corrections={ranks.index(3): f"better, {name}"})
                feedback.submit(uuid.uuid4().hex, held.id, rater, ranking)
        trusted = {
            report.pseudonym: 0.0 if report.suspicions else report.reliability
            for report in feedback.raters("q")
        }
        feedback.export(tmp_path / "rankings")
        feedback.export(tmp_path / "written", format="demonstration")
    assert len(set(trusted.values())) > 1
    assert 1.0 not in trusted.values()
    for folder, kinds in (("rankings", {"ranking", "correction"}), ("written", {"correction"})):
        rows = [json.loads(line) for line in (tmp_path / folder / "data.jsonl").read_text().splitlines()]
        assert {row["kind"] for row in rows} == kinds
        assert {(row["rater"], row["weight"]) for row in rows} == set(trusted.items())
