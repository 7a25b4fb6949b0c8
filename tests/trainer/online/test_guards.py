"""Alarms of over-optimisation, one by one, and the pause that they bring."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pilothouse.trainer.control import RunControl
from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.loop import Observer
from pilothouse.trainer.online.guards import GoldScores, GuardConfig, Guards, Reading, repetition

NOWHERE = Path("/nowhere/guards.jsonl")  # only `watch` is called
CALM = Reading(
    step=0,
    kl_nats=1.0,
    length=20.0,
    repetition=0.1,
    eos_share=0.9,
    proxy=0.0,
    gold=0.0,
    gold_deviation=1.0,
)


def names_of_alarms(config: GuardConfig, *later: dict[str, float], calm_steps: int = 5) -> list[str]:
    guards = Guards(config, Observer(), NOWHERE)
    readings = [CALM] * calm_steps + [replace(CALM, **change) for change in later]  # type: ignore[arg-type]
    return [
        alarm.name
        for step, reading in enumerate(readings, start=1)
        for alarm in guards.watch(replace(reading, step=step))
    ]


def test_a_calm_run_raises_no_alarm() -> None:
    assert names_of_alarms(GuardConfig(kl_nats=5.0), *[{}] * 50) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kl", {"kl_nats": 9.0}),
        ("length", {"length": 60.0}),
        ("repetition", {"repetition": 0.9}),
        ("eos", {"eos_share": 0.0}),
        ("gold", {"proxy": 1.0, "gold": -1.0}),
    ],
)
def test_each_limit_raises_its_alarm_once_a_window(name: str, change: dict[str, float]) -> None:
    config = GuardConfig(window_steps=5, kl_nats=5.0)
    assert names_of_alarms(config, *[change] * 5) == [name]
    assert names_of_alarms(config, *[change] * 20) == [name] * 4


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("length_factor", {"length": 60.0}),
        ("repetition_share", {"repetition": 0.9}),
        ("eos_share", {"eos_share": 0.0}),
        ("gold_fall", {"proxy": 1.0, "gold": -1.0}),
    ],
)
def test_a_limit_can_be_turned_off(key: str, change: dict[str, float]) -> None:
    assert names_of_alarms(GuardConfig(**{key: None}), *[change] * 20) == []  # type: ignore[arg-type]


def test_a_gold_score_that_falls_with_the_reward_is_no_over_optimisation() -> None:
    assert "gold" not in names_of_alarms(GuardConfig(), *[{"proxy": -1.0, "gold": -1.0}] * 20)


def test_the_gold_score_is_compared_with_its_best_window() -> None:
    better = [{"proxy": 0.5, "gold": 2.0}] * 10
    assert "gold" in names_of_alarms(GuardConfig(), *better, *[{"proxy": 1.0, "gold": 1.0}] * 5)


def test_responses_that_never_ended_by_themselves_raise_no_alarm() -> None:
    guards = Guards(GuardConfig(), Observer(), NOWHERE)
    for step in range(30):
        assert not guards.watch(replace(CALM, step=step, eos_share=0.05))


def watching(file: Path, gold: GoldScores | None = None) -> tuple[Guards, RunControl]:
    control = RunControl("run", "ppo", 100)
    guards = Guards(GuardConfig(window_steps=2), Observer(), file, gold)
    guards.on_control(control)
    return guards, control


def test_an_alarm_pauses_the_run_and_says_why(tmp_path: Path) -> None:
    guards, control = watching(tmp_path / "guards.jsonl")
    for step in range(1, 6):
        guards.on_step(step, metrics(length=20.0 if step <= 2 else 90.0), [sample([1, 2, 3])])
    assert "grown from 20 to" in control.status.pause_reason
    assert guards.alarms[0].name == "length"
    control.resume()
    assert control.status.pause_reason == ""


def test_the_gold_model_scores_whole_sequences_and_its_fall_pauses_the_run(tmp_path: Path) -> None:
    file = tmp_path / "guards.jsonl"
    guards, control = watching(file, lambda rows: np.array([row.sum() for row in rows], np.float32))
    for step in range(1, 4):
        fall = 0 if step <= 2 else 9
        samples = [sample([2], prompt=[prompt - fall, 3]) for prompt in (10, 14)]
        guards.on_step(step, metrics(length=20.0, score=float(step)), samples)
    assert [(reading.gold, reading.gold_deviation) for reading in guards.readings] == [
        (17.0, 2.0),
        (17.0, 2.0),
        (8.0, 2.0),
    ]
    assert [alarm.name for alarm in guards.alarms] == ["gold"]
    assert "gold model's score fell by 2.25 deviations" in control.status.pause_reason
    assert [row["gold"] for row in read_rows(file)] == [17.0, 17.0, 8.0]


def test_without_a_gold_model_its_score_is_unknown(tmp_path: Path) -> None:
    guards, _ = watching(tmp_path / "guards.jsonl")
    guards.on_step(1, metrics(length=20.0), [sample([1, 2, 3])])
    [row] = read_rows(tmp_path / "guards.jsonl")
    assert row["gold"] is row["gold_deviation"] is None


def test_a_run_that_goes_on_is_compared_with_its_own_beginning_and_stays_paused(tmp_path: Path) -> None:
    file = tmp_path / "guards.jsonl"
    guards, control = watching(file)
    guards.on_start(0, 100, False, 0)
    for step in range(1, 5):
        guards.on_step(step, metrics(length=20.0 if step <= 2 else 90.0), [sample([1, 2, 3])])
    assert [alarm.step for alarm in guards.alarms] == [3]

    after, control = watching(file)
    after.on_start(3, 100, True, 1)  # the fourth step is taken anew
    assert after.alarms == guards.alarms
    assert "grown from 20 to" in control.status.pause_reason
    after.on_step(4, metrics(length=90.0), [sample([1, 2, 3])])
    assert [row["step"] for row in read_rows(file)] == [1, 2, 3, 4]

    later, control = watching(file)
    later.on_start(4, 100, True, 0)
    assert later.alarms == guards.alarms
    assert control.status.pause_reason == ""  # somebody had let it go on


def test_repetition_is_the_share_of_trigrams_seen_before() -> None:
    assert repetition(np.array([1, 2, 3, 1, 2, 3], np.int32)) == pytest.approx(1 / 4)
    assert repetition(np.array([7] * 12, np.int32)) == pytest.approx(9 / 10)
    assert repetition(np.array([1, 2], np.int32)) == 0.0


def metrics(**changes: float) -> dict[str, float]:
    return {
        "objective/kl": 1.0,
        "response/length": changes["length"],
        "response/eos_share": 0.9,
        "objective/scores": changes.get("score", 0.0),
    }


def sample(tokens: list[int], prompt: Sequence[int] = ()) -> Any:
    completion = SimpleNamespace(tokens=np.array(tokens, np.int32))
    sequence = np.array([*prompt, *tokens], np.int32)
    return SimpleNamespace(answer=SimpleNamespace(completion=completion, sequence=sequence))
