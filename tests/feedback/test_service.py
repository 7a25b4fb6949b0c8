"""The service as its clients see it: a real process, a real database of each kind."""

import json
import math
import random
import threading
import uuid
from pathlib import Path

import pytest

from pilothouse.client import (
    AsyncFeedbackClient,
    FeedbackAnswer,
    FeedbackClient,
    FeedbackTask,
    QueueSettings,
    Ranking,
    Skip,
    WrittenAnswer,
)
from pilothouse.errors import (
    AssignmentClosedError,
    InvalidRequestError,
    NoTaskError,
    NotFoundError,
    RaterBarredError,
    SubmissionConflictError,
    UnavailableError,
    UndoTooLateError,
)

from .serving import process


def tasks(count: int, answers: int = 4) -> list[FeedbackTask]:
    return [
        FeedbackTask(
            id=f"task-{number:05}",
            prompt=f"prompt {number}",
            answers=[FeedbackAnswer(text=f"answer {a} to {number}") for a in range(answers)],
        )
        for number in range(count)
    ]


def by_text(assignment_answers: tuple[FeedbackAnswer, ...]) -> list[int]:
    """Returns ranks that follow from the texts, whatever the order in which they are shown."""
    order = sorted(answer.text for answer in assignment_answers)
    return [order.index(answer.text) + 1 for answer in assignment_answers]


def test_a_ranking_goes_in_and_comes_out_under_a_pseudonym(tmp_path: Path, url: str) -> None:
    with process(tmp_path, url) as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="films", instructions="Which is best?", overlap=2))
        assert feedback.add_tasks("films", tasks(2)) == 2
        assert feedback.add_tasks("films", tasks(3)) == 1  # adding may be repeated
        rater = feedback.add_rater("Ada")
        held = feedback.claim("films", rater)
        assert held.instructions == "Which is best?"
        said = uuid.uuid4().hex
        ranking = Ranking(ranks=by_text(held.answers), unsafe=[3], corrections={1: "a better one"})
        assert feedback.submit(said, held.id, rater, ranking, comment="hm", seconds=4.5)
        assert not feedback.submit(said, held.id, rater, ranking, comment="hm", seconds=4.5)
        with pytest.raises(SubmissionConflictError):
            feedback.submit(said, held.id, rater, Skip())
        with pytest.raises(AssignmentClosedError):
            feedback.submit(uuid.uuid4().hex, held.id, rater, ranking)
        manifest = feedback.export(tmp_path / "out")
        rows = [json.loads(line) for line in (tmp_path / "out/data.jsonl").read_text().splitlines()]
        ranked = next(row for row in rows if len(row["responses"]) == 4)
        assert ranked["ranks"] == by_text(tuple(FeedbackAnswer(text=text) for text in ranked["responses"]))
        assert "Ada" not in (tmp_path / "out/data.jsonl").read_text()
        corrected = next(row for row in rows if len(row["responses"]) == 2)
        assert corrected["responses"] == ["a better one", held.answers[1].text]
        assert manifest["counts"]["rankings"] == 1  # type: ignore[index]
        assert feedback.progress("films").demonstrations == 1
        assert service.stop() == 0


def test_demonstrations_are_collected_and_exported(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="write", kind="demonstration"))
        feedback.add_tasks("write", [FeedbackTask(id="one", prompt=[("user", "Say something kind.")])])
        rater = feedback.add_rater("Ada")
        held = feedback.claim("write", rater)
        assert held.prompt == (("user", "Say something kind."),)
        with pytest.raises(InvalidRequestError, match="written answer"):
            feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=[1, 2]))
        feedback.submit(uuid.uuid4().hex, held.id, rater, WrittenAnswer("You did well."))
        feedback.export(tmp_path / "out", format="demonstration")
        [row] = [json.loads(line) for line in (tmp_path / "out/data.jsonl").read_text().splitlines()]
        assert row["completion"] == [{"role": "assistant", "content": "You did well."}]


def test_undo_gives_the_task_back_while_there_is_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db"
    with (
        process(tmp_path, url, undo_seconds=1.0) as service,
        FeedbackClient(service.target) as feedback,
    ):
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", tasks(1))
        rater = feedback.add_rater("Ada")
        held = feedback.claim("q", rater)
        first, second = uuid.uuid4().hex, uuid.uuid4().hex
        feedback.submit(first, held.id, rater, Ranking(ranks=[1, 2, 3, 4]))
        again = feedback.undo(first, rater)
        assert again.answers == held.answers
        assert feedback.progress("q").rankings == 0
        feedback.submit(second, again.id, rater, Ranking(ranks=[4, 3, 2, 1]))
        threading.Event().wait(1.1)
        with pytest.raises(UndoTooLateError):
            feedback.undo(second, rater)


def test_vetoes_reach_every_export(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q", overlap=2))
        feedback.add_tasks("q", tasks(2, answers=2))
        rater = feedback.add_rater("Ada")
        listed = {task.id: task for task in feedback.open_tasks("q")}
        for _ in range(2):
            held = feedback.claim("q", rater)
            feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=by_text(held.answers)))
        best = listed["task-00000"].answers[0]
        assert isinstance(best, FeedbackAnswer)
        feedback.adjust_answer(best.id, "veto", reason="untrue")
        feedback.adjust_prompt("task-00001", "veto")
        feedback.export(tmp_path / "out", format="preference")
        [row] = [json.loads(line) for line in (tmp_path / "out/data.jsonl").read_text().splitlines()]
        assert row["rejected"] == best.text
        assert feedback.add_tasks("q", [FeedbackTask(id="new", prompt="prompt 1", answers=["a", "b"])]) == 0
        feedback.adjust_prompt("task-00001", "veto", lift=True)
        feedback.adjust_answer(best.id, "veto", lift=True)
        feedback.export(tmp_path / "again", format="preference")
        assert len((tmp_path / "again/data.jsonl").read_text().splitlines()) == 2


def test_an_erased_person_leaves_rankings_without_a_name_in_any_file(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", tasks(1))
        rater, said = feedback.add_rater("Ada Lovelace"), uuid.uuid4().hex
        held = feedback.claim("q", rater)
        feedback.submit(said, held.id, rater, Ranking(ranks=[1, 2, 3, 4]), comment="signed, Ada Lovelace")
        [before] = feedback.raters()
        assert feedback.erase_rater(rater) == 1
        [after] = feedback.raters()
        assert before.pseudonym != after.pseudonym
        feedback.export(tmp_path / "out")
        assert len((tmp_path / "out/data.jsonl").read_text().splitlines()) == 1
        with pytest.raises(RaterBarredError):
            feedback.claim("q", rater)
        service.kill()
    remains = b"".join(file.read_bytes() for file in [*tmp_path.glob("db*"), *tmp_path.glob("out/*")])
    assert b"Lovelace" not in remains
    assert said.encode() not in remains


def test_an_export_imports_into_another_service_once(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        feedback.put_queue(QueueSettings(name="q", overlap=2))
        feedback.add_tasks("q", tasks(5))
        for name in ("Ada", "Bob"):
            rater = feedback.add_rater(name)
            for _ in range(5):
                held = feedback.claim("q", rater)
                feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=by_text(held.answers)))
        feedback.export(tmp_path / "out")
        feedback.put_queue(QueueSettings(name="copy"))
        file = tmp_path / "out/data.jsonl"
        added = feedback.import_file("copy", file)
        assert (added.tasks, added.rankings, added.known) == (5, 10, 0)
        again = feedback.import_file("copy", file)
        assert (again.tasks, again.rankings, again.known) == (0, 0, 10)
        assert feedback.quality("copy").alpha.value == pytest.approx(1.0)
        assert math.isnan(feedback.quality("copy").gold_accuracy.value)


def test_mistakes_are_told_with_what_mends_them(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service, FeedbackClient(service.target) as feedback:
        with pytest.raises(NotFoundError, match="PutQueue"):
            feedback.add_tasks("nowhere", tasks(1))
        with pytest.raises(InvalidRequestError, match="1 to 100"):
            feedback.put_queue(QueueSettings(name="q", overlap=0))
        feedback.put_queue(QueueSettings(name="q"))
        for task, message in (
            (FeedbackTask(id="a b", prompt="p", answers=["a", "b"]), "letters"),
            (FeedbackTask(id="t", prompt="", answers=["a", "b"]), "prompt"),
            (FeedbackTask(id="t", prompt="p", answers=["a"]), "2 to 9"),
            (FeedbackTask(id="t", prompt="p", answers=["a", "a"]), "same text"),
            (FeedbackTask(id="t", prompt="p", answers=["a", "b\0"]), "NUL"),
            (FeedbackTask(id="t", prompt="p", answers=["a", "b"], gold_ranks=[1]), "gold"),
            (FeedbackTask(id="t", prompt="p", answers=["a", "b"], priority=math.nan), "priority"),
            (FeedbackTask(id="t", prompt="x" * 40_000, answers=["a", "b"]), "max_text_characters"),
        ):
            with pytest.raises(InvalidRequestError, match=message):
                feedback.add_tasks("q", [task])
        feedback.add_tasks("q", tasks(1))
        rater = feedback.add_rater("Ada")
        with pytest.raises(InvalidRequestError, match="taken"):
            feedback.add_rater("Ada")
        held = feedback.claim("q", rater)
        for ranks in ([], [1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 5]):
            with pytest.raises(InvalidRequestError):
                feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=ranks))
        with pytest.raises(InvalidRequestError, match="8 to 64"):
            feedback.submit("short", held.id, rater, Skip())
        with pytest.raises(NotFoundError):
            feedback.submit(uuid.uuid4().hex, held.id, feedback.add_rater("Bob"), Skip())


@pytest.mark.heavy
def test_kill_9_in_the_middle_of_a_thousand_submits_loses_and_doubles_nothing(
    tmp_path: Path, url: str
) -> None:
    """Raters go on through eight kills; what was acknowledged is there, once, and nothing else is."""
    total, crowd, kills = 1_000, 8, 8
    chance = random.Random(0)
    acknowledged: dict[str, str] = {}
    lock, done = threading.Lock(), threading.Event()
    with process(tmp_path, url) as first, FeedbackClient(first.target) as feedback:
        feedback.put_queue(QueueSettings(name="q"))
        feedback.add_tasks("q", tasks(total, answers=2))
        everyone = [feedback.add_rater(f"rater {number}") for number in range(crowd)]
        target = first.target
        assert first.stop() == 0
    port = int(target.rsplit(":", 1)[1])

    def work(rater: str) -> None:
        with FeedbackClient(target, timeout_seconds=120) as client:
            while True:
                held = until_it_answers(lambda: client.claim("q", rater))
                if held is None:
                    return
                said, ranking = uuid.uuid4().hex, Ranking(ranks=by_text(held.answers))
                until_it_answers(lambda: client.submit(said, held.id, rater, ranking))  # noqa: B023
                with lock:
                    acknowledged[said] = held.task

    def until_it_answers(call: object) -> object:
        while not done.is_set():
            try:
                return call()  # type: ignore[operator]
            except NoTaskError:
                return None
            except UnavailableError:
                done.wait(0.02)
        raise AssertionError("gave up")

    workers = [threading.Thread(target=work, args=(rater,)) for rater in everyone]
    try:
        for number in range(kills + 1):
            with process(tmp_path, url, port=port) as service:
                if number == 0:
                    for worker in workers:
                        worker.start()
                goal = total if number == kills else (number + 1) * total // (kills + 2)
                while len(acknowledged) < goal and any(worker.is_alive() for worker in workers):
                    done.wait(chance.random() * 0.02)
                if number == kills:
                    for worker in workers:
                        worker.join()
                    with FeedbackClient(service.target) as client:
                        client.export(tmp_path / "out")
                else:
                    service.kill()
    finally:
        done.set()
    rows = [json.loads(line) for line in (tmp_path / "out/data.jsonl").read_text().splitlines()]
    assert {row["id"]: row["task"] for row in rows} == acknowledged
    assert len(rows) == total
    assert len({row["task"] for row in rows}) == total


async def test_the_asyncio_client_does_the_same(tmp_path: Path) -> None:
    with process(tmp_path, f"sqlite:///{tmp_path}/db") as service:
        async with AsyncFeedbackClient(service.target) as feedback:
            await feedback.put_queue(QueueSettings(name="q"))
            assert await feedback.add_tasks("q", tasks(2)) == 2
            assert [task.id async for task in feedback.open_tasks("q", page=1)] == [
                "task-00000",
                "task-00001",
            ]
            rater = await feedback.add_rater("Ada")
            held = await feedback.claim("q", rater)
            assert await feedback.renew(held.id, rater) >= held.lease_expires_at
            assert await feedback.submit(uuid.uuid4().hex, held.id, rater, Ranking(ranks=[1, 1, 2, 3]))
            await feedback.release((await feedback.claim("q", rater)).id, rater)
            assert (await feedback.progress("q")).rankings == 1
            assert (await feedback.quality("q")).rankings == 1
            await feedback.set_rater_state(rater, "excluded")
            assert (await feedback.progress("q")).rankings == 0
