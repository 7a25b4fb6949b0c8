"""What an operator asks for by a wrong name, and finds by the right one."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.client import FeedbackClient, FeedbackTask, QueueSettings, Ranking
from pilothouse.client.feedback_types import Split
from pilothouse.errors import ConfigError, NotFoundError
from pilothouse.feedback.database import Database
from pilothouse.feedback.formats.split import split_of
from pilothouse.feedback.records import PromptRecord

from .serving import process


@pytest.mark.parametrize(
    "ask",
    [
        lambda feedback, folder: feedback.export(folder / "out", queue="nope"),
        lambda feedback, folder: feedback.quality("nope"),
        lambda feedback, folder: feedback.raters("nope"),
        lambda feedback, folder: feedback.progress("nope"),
    ],
    ids=["Export", "GetQuality", "ListRaters", "WatchFeedback"],
)
def test_a_queue_that_is_not_there_is_refused_with_the_names_of_those_that_are(
    tmp_path: Path, url: str, ask: Callable[[FeedbackClient, Path], object]
) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="films"))
        with pytest.raises(NotFoundError, match="no queue 'nope'; queues: films;"):
            ask(feedback, tmp_path)
        assert not (tmp_path / "out").exists()


def test_a_person_is_found_by_name_and_pseudonym_and_the_name_is_gone_after_the_erasure(
    tmp_path: Path, url: str
) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="p", answers=["a", "b"])])
        rater = feedback.add_rater("Anna")
        held = feedback.claim("q", rater)
        feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=[1, 2]))
        [known] = feedback.raters()
        feedback.set_rater_state(known.pseudonym, "excluded")
        assert feedback.progress("q").rankings == 0
        feedback.set_rater_state("Anna", "active")
        assert feedback.progress("q").rankings == 1
        assert feedback.erase_rater("Anna") == 1
        with pytest.raises(NotFoundError, match="feedback raters"):
            feedback.erase_rater("Anna")
        [after] = feedback.raters()
        assert (after.rater, after.state) == (rater, "disabled")


def test_an_export_of_rankings_names_the_answers_that_a_veto_takes(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", [FeedbackTask(id="t", prompt="p", answers=["a", "b"])])
        rater = feedback.add_rater("Ada")
        held = feedback.claim("q", rater)
        ranks = [1 if answer.text == "a" else 2 for answer in held.answers]
        feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks, corrections={0: "c"}))

        def rows(name: str) -> list[dict[str, object]]:
            feedback.export(tmp_path / name)
            return [json.loads(line) for line in (tmp_path / name / "data.jsonl").read_text().splitlines()]

        [correction, before] = rows("before")
        assert correction["answer_ids"][0] == ""  # type: ignore[index]
        assert correction["answer_ids"][1] in before["answer_ids"]  # type: ignore[index, operator]
        feedback.adjust_answer(before["answer_ids"][0], "veto")  # type: ignore[index]
        [_, after] = rows("after")
        assert (before["ranks"], after["ranks"], after["vetoed"]) == ([1, 2], [2, 1], [0])
        with pytest.raises(NotFoundError, match="answer_ids"):
            feedback.adjust_answer("nope", "veto")


def test_the_agreement_of_a_part_is_that_of_the_part(tmp_path: Path) -> None:
    with (
        process(tmp_path, f"sqlite:///{tmp_path}/db") as service,
        FeedbackClient(service.target) as feedback,
    ):
        feedback.put_queue(QueueSettings(name="q", overlap=2))
        prompts = [f"prompt {number}" for number in range(12)]
        held_out = {text for text in prompts if split_of(PromptRecord(text=text), 50) == "held-out"}
        assert held_out
        tasks = [FeedbackTask(id=f"t{n}", prompt=text, answers=["a", "b"]) for n, text in enumerate(prompts)]
        feedback.add_tasks("q", tasks)
        for name in ("Ada", "Bob"):
            rater = feedback.add_rater(name)
            for _ in tasks:
                held = feedback.claim("q", rater)
                best = "b" if name == "Bob" and held.prompt in held_out else "a"  # they differ on these only
                ranks = [1 if answer.text == best else 2 for answer in held.answers]
                feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks))

        def agreement(split: Split) -> object:
            manifest = feedback.export(tmp_path / split, split=split, held_out_percent=50)
            assert (tmp_path / split / f"{split}.jsonl").is_file()
            return manifest["agreement"]["pair_agreement"]["value"]  # type: ignore[index]

        assert (agreement("train"), agreement("held-out")) == (1.0, 0.0)


@pytest.mark.parametrize("url", ["mysql://user@host/name", "oracle://host", "nonsense"])
def test_other_databases_are_refused_with_those_that_work(url: str) -> None:
    with pytest.raises(ConfigError, match=r"sqlite:///PATH or postgresql\+psycopg") as told:
        Database(url)
    assert "pip install" not in str(told.value)
