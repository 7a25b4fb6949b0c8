"""What people get to rank: the tasks, and the answers, on which the serving ensemble disagrees most."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.trainer.online.conftest import RANDOM_MODELS, Place

from pilothouse.client import FeedbackClient, FeedbackTask, Ranking, RewardClient
from pilothouse.errors import ConfigError, InvalidDataError
from pilothouse.trainer.online.collecting import most_wanted, prepare_queue, take, wait
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.selection import priorities

TASKS = [
    FeedbackTask(id=f"t{number}", prompt=f"the film {word}", answers=[f" {a} {word}" for a in answers])
    for number, (word, answers) in enumerate(
        {
            "was": ("great", "boring", "good", "a bad one"),
            "is": ("so so", "very very good", "x"),
            "had": ("all", "nothing", "much of it", "some", "time"),
        }.items()
    )
]


def _texts(task: FeedbackTask) -> list[str]:
    return [answer if isinstance(answer, str) else answer.text for answer in task.answers]


@pytest.mark.heavy
def test_people_get_first_what_the_serving_ensemble_disagrees_on(place: Place) -> None:
    place.serve(*RANDOM_MODELS)
    with RewardClient(place.targets["reward"]) as reward:
        found, pairs = most_wanted(TASKS, reward), most_wanted(TASKS, reward, answers=2)

        def members(task: FeedbackTask) -> np.ndarray:
            scores = reward.score([str(task.prompt)] * len(task.answers), _texts(task))
            return np.stack([part.values for part in scores.components])

        wanted = {task.id: priorities(members(task)[:, None])[0] for task in TASKS}
        worth = {
            (task.id, *pair): priorities(members(task)[:, None, list(pair)])[0]
            for task in TASKS
            for pair in combinations(range(len(task.answers)), 2)
        }

    assert [task.id for task in found] == sorted(wanted, key=lambda name: -wanted[name])
    assert [task.priority for task in found] == pytest.approx([wanted[task.id] for task in found], rel=1e-4)
    assert found[0].priority > found[-1].priority > 0
    assert {task.id: _texts(task) for task in found} == {task.id: _texts(task) for task in TASKS}

    assert [task.priority for task in pairs] == sorted((task.priority for task in pairs), reverse=True)
    for task in pairs:
        original = next(each for each in TASKS if each.id == task.id)
        chosen = tuple(_texts(original).index(text) for text in _texts(task))
        best = max(value for (name, *_), value in worth.items() if name == task.id)
        assert len(chosen) == 2
        assert worth[task.id, *chosen] == pytest.approx(best, rel=1e-4)
        assert task.priority == pytest.approx(best, rel=1e-4)


def test_without_an_ensemble_the_order_stays_and_the_first_answers_are_kept(place: Place) -> None:
    place.serve("random-1")
    with RewardClient(place.targets["reward"]) as reward:
        found = most_wanted(TASKS, reward, answers=3)
        assert [(task.id, task.priority) for task in found] == [(task.id, 0.0) for task in TASKS]
        assert [_texts(task) for task in found] == [_texts(task)[:3] for task in TASKS]
        chat = FeedbackTask(id="c", prompt=[("user", "Well?")], answers=["Yes.", "No."])
        with pytest.raises(ConfigError, match=r"set loop\.oversample = 1 and loop\.answers_per_task = 0"):
            most_wanted([chat], reward)


@pytest.mark.parametrize("wrong", [1, 5])
def test_a_task_of_one_answer_or_of_more_than_there_are_is_refused(wrong: int) -> None:
    with pytest.raises(ValidationError, match="set 2 to 4, or 0 for all"):
        LoopConfig(answers_per_task=wrong)


def test_a_snapshot_without_held_out_rankings_says_what_mends_it(place: Place, tmp_path: Path) -> None:
    config = place.config(held_out_percent=1)
    with FeedbackClient(config.feedback) as feedback:
        prepare_queue(config, feedback)
        feedback.add_tasks(config.queue, TASKS[:1])
        rater = feedback.add_rater("Ann")
        held = feedback.claim(config.queue, rater)
        feedback.submit("submission-1", held.id, rater, Ranking(ranks=[1, 2, 3, 4]))
        with pytest.raises(InvalidDataError, match=rf"no ranking of queue {config.queue} .* is held-out"):
            take(config, feedback, tmp_path / "snapshot")


def test_a_wait_ends_when_all_that_was_asked_is_answered_and_is_refused_where_nothing_was(
    place: Place,
) -> None:
    config = place.config(new_rankings=5)
    shown = list[tuple[float, float]]()

    def show(done: float, total: float, detail: str) -> None:
        shown.append((done, total))

    with FeedbackClient(config.feedback) as feedback:
        prepare_queue(config, feedback)
        with pytest.raises(
            ConfigError, match=r"has no task to rank, and 0 rankings; .* Give other loop\.prompts"
        ):
            wait(config, feedback, 0, show)
        feedback.add_tasks(config.queue, [replace(task, id=f"wait-{task.id}") for task in TASKS])
        with place.crowd():
            wait(config, feedback, 0, show)
        assert shown[-1] == (3, 5)
        with pytest.raises(ConfigError, match=r"3 rankings; the loop has learned from 7\."):
            wait(config, feedback, 7, show)


def test_more_answers_than_one_call_takes_are_scored_in_parts(place: Place) -> None:
    place.serve(*RANDOM_MODELS)
    many = [FeedbackTask(id=f"m{n}", prompt="the film", answers=[f" a{n}", " b", " c"]) for n in range(400)]
    with RewardClient(place.targets["reward"]) as reward:
        found = most_wanted(many, reward)
    assert {task.id for task in found} == {task.id for task in many}
    assert all(task.priority > 0 for task in found)
