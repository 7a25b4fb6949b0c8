"""What an import adds to a queue, and what of it is there already; on a database of each kind."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pilothouse.client import (
    ExportFormat,
    FeedbackAnswer,
    FeedbackClient,
    FeedbackTask,
    Imported,
    QueueSettings,
    Ranking,
)
from pilothouse.errors import InvalidDataError

from .serving import process

AB = {"prompt": "P1", "chosen": "a", "rejected": "b"}
BA = {"prompt": "P1", "chosen": "b", "rejected": "a"}


def write(file: Path, *records: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]


def rank(feedback: FeedbackClient, queue: str, name: str, **more: Any) -> str:
    """Lets somebody new rank the next task by its texts."""
    rater = feedback.add_rater(name)
    held = feedback.claim(queue, rater)
    order = sorted(answer.text for answer in held.answers)
    ranks = [order.index(answer.text) + 1 for answer in held.answers]
    feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks, **more))
    return rater


def test_opposite_judgements_without_a_rater_are_both_kept_and_each_is_there_once(
    tmp_path: Path, url: str
) -> None:
    one, other = write(tmp_path / "1.jsonl", AB), write(tmp_path / "2.jsonl", BA)
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        assert feedback.import_file("q", one, format="preference") == Imported(1, 1, 0)
        assert feedback.import_file("q", other, format="preference") == Imported(0, 1, 0)
        for file in (one, other):
            assert feedback.import_file("q", file, format="preference") == Imported(0, 0, 1)
        feedback.export(tmp_path / "out")
        said = rows(tmp_path / "out")
        assert sorted(row["ranks"] for row in said) == [[1, 2], [2, 1]]
        assert len({row["rater"] for row in said}) == 2


def test_equal_lines_without_a_rater_are_several_people_and_known_as_such(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        two = write(tmp_path / "two.jsonl", AB, AB)
        assert feedback.import_file("q", two, format="preference") == Imported(1, 2, 0)
        assert feedback.import_file("q", two, format="preference") == Imported(0, 0, 2)
        three = write(tmp_path / "three.jsonl", AB, BA, AB, AB)
        assert feedback.import_file("q", three, format="preference") == Imported(0, 2, 2)


def test_a_rater_who_says_two_things_of_one_task_is_named_with_the_lines(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        both = write(tmp_path / "both.jsonl", AB | {"rater": "ann"}, BA | {"rater": "ann"})
        with pytest.raises(InvalidDataError, match=r"line 2: rater 'ann' has ranked .* otherwise \(line 1\)"):
            feedback.import_file("q", both, format="preference")
        assert feedback.progress("q").rankings == 0
        assert feedback.import_file("q", write(both, AB | {"rater": "ann"}), format="preference").rankings
        with pytest.raises(InvalidDataError, match=r"line 1: .* \(what is stored\)"):
            feedback.import_file("q", write(both, BA | {"rater": "ann"}), format="preference")
        assert feedback.import_file("q", write(both, BA | {"rater": "bob"}), format="preference").rankings


@pytest.mark.parametrize("conversational", [False, True])
@pytest.mark.parametrize("format", ["ranking", "label-studio", "argilla"])
def test_an_own_export_is_recognised_with_corrections_and_vetoes(
    tmp_path: Path, url: str, format: ExportFormat, conversational: bool
) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q", overlap=2))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="p", answers=["z", "m", "a"])])
        [task] = feedback.open_tasks("q")
        rank(feedback, "q", "Ada", corrections={0: "better"})
        rank(feedback, "q", "Bob")
        best = next(
            answer for answer in task.answers if isinstance(answer, FeedbackAnswer) and answer.text == "a"
        )
        feedback.adjust_answer(best.id, "veto")
        feedback.export(tmp_path / "out", format=format, conversational=conversational)
        for file in (tmp_path / "out").glob("data*"):
            added = feedback.import_file("q", file, format=format)
            assert (added.tasks, added.rankings) == (0, 0)
            assert added.known >= 1
        assert feedback.progress("q").rankings == 2


def test_an_import_fills_the_queue_that_it_names_with_the_raters_whom_the_service_knows(
    tmp_path: Path, url: str
) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        for name in ("q", "copy", "third"):
            feedback.put_queue(QueueSettings(name=name))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="p", answers=["a", "b"])])
        rank(feedback, "q", "Ada")
        for format in ("ranking", "argilla"):
            feedback.export(tmp_path / format, format=format)
        assert feedback.import_file("copy", tmp_path / "ranking/data.jsonl") == Imported(1, 1, 0)
        argilla = tmp_path / "argilla/data-2-answers.json"
        assert feedback.import_file("third", argilla, format="argilla") == Imported(1, 1, 0)
        assert feedback.import_file("third", argilla, format="argilla") == Imported(0, 0, 1)
        assert [feedback.progress(name).rankings for name in ("q", "copy", "third")] == [1, 1, 1]
        assert len(feedback.raters()) == 1


def test_a_ranking_of_answers_that_the_queue_has_is_one_of_that_task(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="P1", answers=["b", "a"])])
        file = write(tmp_path / "1.jsonl", AB)
        assert feedback.import_file("q", file, format="preference") == Imported(0, 1, 0)
        feedback.export(tmp_path / "out")
        [row] = rows(tmp_path / "out")
        assert (row["task"], row["responses"], row["ranks"]) == ("t", ["b", "a"], [2, 1])
        assert list(feedback.open_tasks("q")) == []


def test_a_lease_is_answered_by_the_import_of_what_its_rater_said(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="P1", answers=["b", "a"])])
        rater = feedback.add_rater("Ada")
        feedback.claim("q", rater)
        [known] = feedback.raters()
        file = write(tmp_path / "1.jsonl", AB | {"rater": known.pseudonym})
        assert feedback.import_file("q", file, format="preference") == Imported(0, 1, 0)
        [queue] = feedback.queues()
        assert (queue.leased, queue.done_tasks, queue.submissions) == (0, 1, 1)


def test_rankings_of_a_vetoed_prompt_are_passed_over(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.put_queue(QueueSettings(name="other"))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="P1", answers=["b", "a"])])
        feedback.adjust_prompt("t", "veto")
        file = write(tmp_path / "1.jsonl", AB)
        for queue in ("q", "other"):
            assert feedback.import_file(queue, file, format="preference") == Imported(0, 0, 1)
            assert feedback.progress(queue).rankings == 0


@pytest.mark.parametrize("strange", ["\0", "\ud800", "half \0 of it"])
def test_an_id_that_no_database_takes_is_none(strange: str, tmp_path: Path, url: str) -> None:
    record = {"id": strange, "prompt": "P", "responses": ["a", "b"], "ranks": [1, 2]}
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        file = write(tmp_path / "strange.jsonl", record)
        assert feedback.import_file("q", file, format="ranking") == Imported(1, 1, 0)
