"""The state machine on real services."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.trainer.online.conftest import Place

from pilothouse.client import FeedbackClient, PolicyClient, RewardModelsClient, WeightsClient
from pilothouse.errors import RunInUseError
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.reward_files import file_digest
from pilothouse.trainer.display import Display, Line
from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.online.guards import GuardConfig
from pilothouse.trainer.online.history import HISTORY
from pilothouse.trainer.online.inputs import STATES
from pilothouse.trainer.online.loop import Loop
from pilothouse.trainer.online.turns import READINGS
from pilothouse.trainer.run_dir import RunDir

pytestmark = pytest.mark.timeout(300)

Work = Callable[[str], None]


class WatchingDisplay(Display):
    """Calls ``begun`` with the title of a state that begins, and ``told`` when one tells of its work."""

    def __init__(self, begun: Work, told: Work = lambda title: None) -> None:
        super().__init__(Console(file=StringIO()))
        self._begun, self._told = begun, told

    @contextmanager
    def stage(self, title: str, names: Sequence[str] = ()) -> Iterator[Line]:
        self._begun(title)
        with super().stage(title, names) as line:
            yield WatchingLine(line, lambda: self._told(title))


class WatchingLine(Line):
    def __init__(self, line: Line, told: Callable[[], None]) -> None:
        self._line, self._was_told = line, told

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        self._line(done, total, metrics)
        self._was_told()

    def show(self, done: float, total: float, detail: str = "") -> None:
        self._line.show(done, total, detail)
        self._was_told()

    def say(self, detail: str) -> None:
        self._line.say(detail)
        self._was_told()


def once(titles: list[str]) -> Work:
    """Returns what is Ctrl-C at each title's first coming."""

    def interrupt(title: str) -> None:
        if title not in titles:
            titles.append(title)
            raise KeyboardInterrupt

    return interrupt


def run_until(place: Place, config: LoopConfig, state: str) -> None:
    """Runs the first turn with a crowd until the state is about to begin."""

    def interrupt(title: str) -> None:
        if title == f"turn 1: {state}":
            raise KeyboardInterrupt

    with place.crowd(), pytest.raises(KeyboardInterrupt):
        Loop(config, place.reward_model(), place.ppo(), WatchingDisplay(interrupt)).run()


def go_on(place: Place, config: LoopConfig) -> dict[str, Any]:
    """Runs the loop to its end and returns the last row of its history."""
    Loop(config, place.reward_model(), place.ppo(), WatchingDisplay(lambda title: None)).run()
    return list(read_rows(config.folder / HISTORY))[-1]


def card(model: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(model) / "card.json").read_text())
    return found


@pytest.mark.heavy
def test_a_loop_that_is_ended_before_and_in_its_states_goes_on_there_and_does_nothing_twice(
    place: Place,
) -> None:
    turns, tasks = 2, 12
    config = place.config(
        turns=turns, oversample=2, gold_min_rankings=1, promotion_margin=-1.0, combination="min"
    )
    begun, told, interrupts = list[str](), list[str](), 0
    display = WatchingDisplay(once(begun), once(told))
    with place.crowd():
        while True:
            try:
                standing = Loop(config, place.reward_model(members=2), place.ppo(), display).run()
                break
            except KeyboardInterrupt:
                interrupts += 1

    assert begun == [f"turn {turn}: {state}" for turn in (1, 2) for state in STATES]
    assert {name.split(": ")[1] for name in told} > {"collect", "wait", "candidate", "improve", "measure"}
    assert interrupts == len(begun) + len(told)
    assert standing.turn == turns
    rows = list(read_rows(config.folder / HISTORY))
    assert [(row["turn"], row["rankings"], row["promoted"]) for row in rows] == [
        (1, tasks, True),
        (2, 2 * tasks, True),
    ]
    with FeedbackClient(config.feedback) as feedback:
        assert feedback.progress(config.queue).rankings == turns * tasks
    with RewardModelsClient(config.reward_models) as models:
        found = models.models()
        assert found.candidate is None
        assert found.serving.reward_version == rows[-1]["reward_version"]
        assert found.serving.combination == "min"
    starts, seeds, prompts = ["tiny"], list[int](), set[str]()
    for row in rows:
        states, folder = row["states"], config.folder / f"turn-{row['turn']}"
        assert states["collect"] == {"prompts": 2 * tasks, "tasks": tasks, "added": tasks}
        train = folder / "snapshot" / "train" / "train.jsonl"
        held_out = next((folder / "snapshot" / "held-out").glob("held?out.jsonl"))
        lines = [*read_rows(train), *read_rows(held_out)]
        assert len(lines) == row["rankings"]
        prompts |= {line["prompt"] for line in lines}
        for model in states["candidate"]["models"]:
            assert card(model)["data"]["training"]["files"][0]["blake3"] == file_digest(train)
            assert card(model)["data"]["held_out"]["files"][0]["blake3"] == file_digest(held_out)
            assert card(model)["normaliser"]["of"] == "samples of the reference policy"
            seeds.append(card(model)["training"]["seed"])
        assert card(states["gold"]["model"])["data"]["training"]["files"][0]["blake3"] == file_digest(
            held_out
        )
        compared = states["compare"]
        assert compared["difference"]["mean"] == pytest.approx(
            compared["candidate_accuracy"]["mean"] - compared["serving_accuracy"]["mean"]
        )
        shadow = compared["shadow"]
        assert shadow["rows"] + shadow["waiting_rows"] > 0
        settings = json.loads((folder / "improve" / "config.json").read_text())
        assert settings["model"] == starts[-1]
        assert settings["value_model"] == states["candidate"]["models"][0]
        starts.append(row["policy"])
        assert [line["step"] for line in read_rows(folder / "improve" / READINGS)] == [1, 2]
        assert all(line["gold"] is not None for line in read_rows(folder / "improve" / READINGS))
    assert len(prompts) == 2 * tasks  # those of the second turn are others
    assert len(set(seeds)) == 4


def test_a_candidate_that_the_service_has_lost_is_staged_again(place: Place) -> None:
    config = place.config(promotion_margin=-1.0)
    run_until(place, config, "decide")
    with RewardModelsClient(config.reward_models) as models:
        models.drop()  # as after a restart
    row = go_on(place, config)
    assert row["promoted"]
    with RewardModelsClient(config.reward_models) as models:
        assert models.models().serving.reward_version == row["reward_version"]


def test_a_candidate_is_compared_again_when_another_model_has_come_to_serve(place: Place) -> None:
    config = place.config(promotion_margin=1.0)
    run_until(place, config, "decide")
    serving = place.serve("random-2")
    row = go_on(place, config)
    assert row["states"]["decide"]["serving_version"] == serving
    assert row["states"]["compare"]["serving_version"] != serving
    # The margin is more than there can be.
    assert not row["promoted"]
    assert row["reward_version"] == serving
    assert row["value_model"] == ""


def test_the_history_tells_what_scored_when_an_operator_has_gone_back(place: Place) -> None:
    before = place.serve("random-3")
    config = place.config(promotion_margin=-1.0)
    run_until(place, config, "improve")
    with RewardModelsClient(config.reward_models) as models:
        models.rollback()
    row = go_on(place, config)
    assert row["promoted"]
    assert row["reward_version"] == before
    assert row["value_model"] == ""


def test_a_changed_guard_undoes_nothing_and_the_new_policy_is_what_is_measured(place: Place) -> None:
    config = place.config()
    run_until(place, config, "measure")
    metrics = config.folder / "turn-1" / "improve" / "metrics.jsonl"
    trained = metrics.read_bytes()
    start = parameters_by_name(load_causal_lm("tiny").model)
    with PolicyClient(place.targets["policy"]) as policy, WeightsClient(place.targets["weights"]) as weights:
        arrays = {name: tensor.detach().numpy() for name, tensor in start.items()}
        weights.push(arrays, run="restarted", epoch=policy.model().epoch + 1, version=1)
        row = go_on(place, config.model_copy(update={"guards": GuardConfig(length_factor=3.0)}))
        assert metrics.read_bytes() == trained
        learned = parameters_by_name(load_causal_lm(row["policy"]).model)
        assert policy.model().digest == state_digest(learned) != state_digest(start)


def test_ctrl_c_after_an_alarm_ends_the_loop_and_not_the_turn(place: Place) -> None:
    config = place.config(guards=GuardConfig(window_steps=1, kl_nats=1e-12))

    def interrupt(title: str) -> None:
        step = len(list(read_rows(config.folder / "turn-1" / "improve" / "metrics.jsonl")))
        if title == "turn 1: improve" and step == 2:
            os.kill(os.getpid(), signal.SIGINT)  # the alarm is raised right after this

    ppo = place.ppo(total_steps=3)
    display = WatchingDisplay(lambda title: None, interrupt)
    with place.crowd(), pytest.raises(KeyboardInterrupt):
        Loop(config, place.reward_model(), ppo, display).run()
    assert not (config.folder / HISTORY).exists()
    calm = config.model_copy(update={"guards": GuardConfig(window_steps=1)})
    Loop(calm, place.reward_model(), ppo, WatchingDisplay(lambda title: None)).run()
    [row] = read_rows(config.folder / HISTORY)
    assert row["states"]["improve"]["steps"] == 3


def test_two_loops_do_not_take_turns_in_one_folder(place: Place) -> None:
    config = place.config()
    with RunDir(config.folder), pytest.raises(RunInUseError, match="stop that run or name another folder"):
        go_on(place, config)
