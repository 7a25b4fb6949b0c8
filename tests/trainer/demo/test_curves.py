import json
import math
from pathlib import Path

import pytest

from pilothouse.trainer.demo.curves import charts
from pilothouse.trainer.demo.recipe import TINY_DEMO
from pilothouse.trainer.demo.results import TITLES, Results
from pilothouse.trainer.stages import Stage


def _rows(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    fit = [{"step": step, "loss": 3.0 / step, "accuracy": 0.8} for step in (1, 2, 3)]
    ppo = [
        {
            "step": s,
            "objective/scores": s / 4,
            "objective/kl": s**2,
            "response/length": 9.0,
            "objective/entropy": 20.0,
        }
        for s in (1, 2, 3)
    ]
    texts = {1: "bad", 2: "so so", 3: "wonderful"}
    samples = [
        {"step": s, "query": "a film", "model response": f" {texts[s]}"} for s in (1, 2, 3) for _ in range(2)
    ]
    for name, rows in (("sft", fit), ("reward-model", fit), ("ppo", ppo)):
        _rows(tmp_path / name / "metrics.jsonl", rows)
    _rows(tmp_path / "ppo" / "samples.jsonl", samples)
    return Results({name: Stage(name, tmp_path / name, {}, 1.0, "", reused=False) for name in TITLES})


def test_checklist_47_both_measures_are_drawn_over_the_root_of_kl(results: Results) -> None:
    (chart,) = (found for found in charts(TINY_DEMO, results) if "over-optimisation" in found.title)
    reward, independent = chart.curves
    assert chart.points
    assert list(reward.xs) == [1.0, 2.0, 3.0]
    assert list(reward.ys) == [0.25, 0.5, 0.75]
    assert list(independent.xs) == [1.0, 2.0, 3.0]
    assert independent.ys[0] < independent.ys[1] == 0 < independent.ys[2]


def test_every_chart_has_a_drawing(results: Results) -> None:
    drawn = charts(TINY_DEMO, results)
    assert len(drawn) == 8
    assert all(chart.svg() for chart in drawn)
    assert any(chart.level == TINY_DEMO.limits.kl_budget_nats for chart in drawn)


def test_the_time_of_the_services_start_stands_by_itself(results: Results) -> None:
    stages = dict(results.stages)
    stages["before"] = Stage("before", Path(), {"services_seconds": 7.0}, 2.0, "", reused=False)
    spent = Results(stages).seconds()
    assert spent["Evaluation before"] == 2.0
    assert spent["Services start"] == 7.0
    assert math.isclose(sum(spent.values()), len(TITLES) - 1 + 2.0 + 7.0)
