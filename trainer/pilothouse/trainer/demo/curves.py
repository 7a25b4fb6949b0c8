"""The curves of a demo's report."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.trainer.charts import Chart, Curve
from pilothouse.trainer.demo.recipe import Recipe
from pilothouse.trainer.demo.results import Results
from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.evaluate import INDEPENDENT_MEASURE, vader

Rows = Sequence[Mapping[str, Any]]


def charts(recipe: Recipe, results: Results) -> list[Chart]:
    """Returns the charts in the order of the work."""
    sft, reward, ppo = (results.metrics(name) for name in ("sft", "reward-model", "ppo"))
    independent = _independent(results)
    return [
        Chart("Reward", "PPO step", (_curve(ppo, "reward model", "objective/scores"),)),
        Chart(INDEPENDENT_MEASURE, "PPO step", (independent,)),
        Chart(
            "KL to the reference, per sequence",
            "PPO step",
            (_curve(ppo, "nats", "objective/kl"),),
            level=recipe.limits.kl_budget_nats,
        ),
        Chart(
            "Both measures by distance from the reference (over-optimisation would part them)",
            "square root of KL",
            _by_distance(ppo, independent),
            points=True,
        ),
        Chart("Response length", "PPO step", (_curve(ppo, "tokens", "response/length"),)),
        Chart("Entropy per sequence", "PPO step", (_curve(ppo, "nats", "objective/entropy"),)),
        Chart(
            "Reward model", "step", (_curve(reward, "loss", "loss"), _curve(reward, "accuracy", "accuracy"))
        ),
        Chart("SFT", "step", (_curve(sft, "loss", "loss"),)),
    ]


def _curve(rows: Rows, name: str, metric: str) -> Curve:
    chosen = [row for row in rows if row.get(metric) is not None]
    return Curve(name, [row["step"] for row in chosen], [row[metric] for row in chosen])


def _independent(results: Results) -> Curve:
    """Returns the mean of the independent measure over the samples of every PPO step."""
    measure = vader()
    by_step: dict[int, list[float]] = {}
    for row in read_rows(results.folder("ppo") / "samples.jsonl"):
        by_step.setdefault(row["step"], []).append(measure(row["query"] + row["model response"]))
    return Curve(
        INDEPENDENT_MEASURE, list(by_step), [sum(values) / len(values) for values in by_step.values()]
    )


def _by_distance(ppo: Rows, independent: Curve) -> tuple[Curve, ...]:
    """Returns reward and independent measure over the square root of KL (Stiennon et al. 2020, figure 5)."""
    distance = {row["step"]: math.sqrt(max(row["objective/kl"], 0.0)) for row in ppo}
    return (
        Curve("reward", list(distance.values()), [row["objective/scores"] for row in ppo]),
        Curve(independent.name, [distance[int(step)] for step in independent.xs], independent.ys),
    )
