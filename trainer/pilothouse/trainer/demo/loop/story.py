"""What a finished loop demo says: ``summary.json``, ``report.html`` and a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pilothouse.trainer.charts import Chart, Curve
from pilothouse.trainer.demo.loop.job import PAGE_RANKINGS, TURNS, LoopResults
from pilothouse.trainer.durable import read_rows, write_atomic
from pilothouse.trainer.evaluate import INDEPENDENT_MEASURE, compare
from pilothouse.trainer.report import (
    SamplePair,
    chart_section,
    header,
    interval_cell,
    notes_section,
    page,
    sample_section,
)
from pilothouse.trainer.statistics import Interval
from pilothouse.trainer.summary import Comparison, Condition, library_versions

LEAST_PAGE_RANKINGS = 50
_SAMPLES = 12
_NOTES = (
    "Everything here is simulated: the crowd is a program, named so; reviews come from templates; the model "
    "is the built-in tiny one, started from random numbers. It shows that the loop works, not that a model "
    "is good.",
    "Honest raters like an answer by its words of praise less those of blame, with Gumbel noise (Bradley and "
    "Terry's model); one of the crowd ranks by chance and one never changes the order shown. One honest "
    "rater uses the real page in a headless Chromium, by the keyboard; the others use the API.",
    f"{INDEPENDENT_MEASURE} is sentiment by a lexicon that people rated. Nothing was trained on it, and the "
    "crowd does not know it.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSummary:
    """Everything that a loop demo is judged by."""

    seed: int
    model: str
    turns: tuple[Mapping[str, Any], ...]
    """For each turn: held-out accuracy of candidate and serving model, whether the candidate was promoted,
    labels used, alarms, and the independent measure of the policy with its interval."""
    before: Interval
    """Independent measure of the SFT model."""
    difference: Comparison
    """Independent measure, last policy against the SFT model, paired by prompt."""
    page_rankings: int
    quality: Mapping[str, Any]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions in the order in which they are told."""
        gain, best = self.difference.difference, self.turns[-1] if self.turns else {}
        accuracy = best.get("candidate_accuracy", {"mean": 0.0})["mean"]
        return (
            Condition(f"{TURNS} turns were taken", len(self.turns) == TURNS, f"{len(self.turns)} turns"),
            Condition(
                "The policy is better by an independent measure, beyond its interval",
                gain.low > 0,
                f"{gain.mean:+.3f}, 95 % interval [{gain.low:+.3f}, {gain.high:+.3f}]; needed above 0",
            ),
            Condition(
                "A reward model that learned from the crowd serves",
                any(turn["promoted"] for turn in self.turns),
                f"held-out accuracy {accuracy:.1%} in the last turn",
            ),
            Condition(
                "Rankings were given on the real page",
                self.page_rankings >= LEAST_PAGE_RANKINGS,
                f"{self.page_rankings} of {PAGE_RANKINGS} planned; needed {LEAST_PAGE_RANKINGS}",
            ),
        )

    @property
    def passed(self) -> bool:
        """Whether every condition held."""
        return all(condition.passed for condition in self.conditions)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``summary.json``."""
        body = asdict(self)
        body["conditions"] = [asdict(condition) for condition in self.conditions]
        return body | {"total_seconds": sum(self.seconds.values()), "passed": self.passed}


def summarise(results: LoopResults, seed: int) -> LoopSummary:
    """Returns the summary of a finished demo."""
    first = results.evaluations[0]
    turns = tuple(
        {
            "turn": row["turn"],
            "labels": row["rankings"],
            "promoted": row["promoted"],
            "reward_version": row["reward_version"],
            "candidate_accuracy": row["states"]["decide"]["candidate_accuracy"],
            "serving_accuracy": row["states"]["decide"]["serving_accuracy"],
            "alarms": row["states"]["improve"]["alarms"],
            "independent": asdict(evaluation.interval("independent")),
            "independent_gain": asdict(
                compare(first, evaluation, "independent", INDEPENDENT_MEASURE).difference
            ),
            "kl_nats": asdict(evaluation.interval("kl")),
            "response_tokens": asdict(evaluation.interval("tokens")),
        }
        for row, evaluation in zip(results.turns, results.evaluations[1:], strict=True)
    )
    return LoopSummary(
        seed=seed,
        model="tiny (built in, random start)",
        turns=turns,
        before=first.interval("independent"),
        difference=compare(first, results.evaluations[-1], "independent", INDEPENDENT_MEASURE),
        page_rankings=results.page_rankings,
        quality=results.quality,
        seconds=results.seconds,
        versions=library_versions(),
    )


def write(summary: LoopSummary, results: LoopResults, folder: Path) -> Path:
    """Writes ``summary.json`` and ``report.html`` into the folder and returns the report's path."""
    text = json.dumps(summary.to_json(), indent=2, allow_nan=False) + "\n"
    write_atomic(folder / "summary.json", text.encode())
    minutes = sum(summary.seconds.values()) / 60
    facts = f"{summary.model}, seed {summary.seed}, {minutes:.1f} minutes, a simulated crowd"
    body = "".join(
        (
            header(folder.name, facts, summary.conditions),
            _turns(summary),
            chart_section(_charts(summary, folder)),
            sample_section(_pairs(results)),
            notes_section(_NOTES, summary.versions),
        )
    )
    write_atomic(folder / "report.html", page(folder.name, body).encode())
    return folder / "report.html"


def tell(console: Console, summary: LoopSummary, report: Path) -> None:
    """Prints the final table."""
    table = Table(title="The closed loop, with a simulated crowd")
    for name in ("", "rankings", "serving", "candidate", "", INDEPENDENT_MEASURE, "KL"):
        table.add_column(name, justify="right")
    table.add_row("SFT", "", "", "", "", _told(asdict(summary.before)), "")
    for turn in summary.turns:
        table.add_row(
            f"turn {turn['turn']}",
            str(turn["labels"]),
            f"{turn['serving_accuracy']['mean']:.1%}",
            f"{turn['candidate_accuracy']['mean']:.1%}",
            "promoted" if turn["promoted"] else "dropped",
            _told(turn["independent"]),
            f"{turn['kl_nats']['mean']:.1f}",
        )
    console.print(table)
    for condition in summary.conditions:
        mark = "[green]held[/green]  " if condition.passed else "[red]failed[/red]"
        console.print(f"{mark} {condition.name}: {condition.detail}", highlight=False)
    console.print(f"Report: {report}")


def _told(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _turns(summary: LoopSummary) -> str:
    head = (
        "<thead><tr><th></th><th>Rankings so far</th><th>Serving, held-out</th><th>Candidate, held-out</th>"
        f"<th></th><th>{escape(INDEPENDENT_MEASURE)}</th><th>Gain over SFT, paired</th><th>KL, nats</th>"
        "</tr></thead>"
    )
    rows = (
        f"<tr><th>SFT</th><td></td><td></td><td></td><td></td><td>{interval_cell(summary.before)}</td></tr>"
    )
    for turn in summary.turns:
        cells = [
            str(turn["labels"]),
            f"{turn['serving_accuracy']['mean']:.1%}",
            f"{turn['candidate_accuracy']['mean']:.1%}",
            "promoted" if turn["promoted"] else "dropped",
            interval_cell(Interval(**turn["independent"])),
            interval_cell(Interval(**turn["independent_gain"]), sign=True),
            f"{turn['kl_nats']['mean']:.1f}",
        ]
        rows += f"<tr><th>Turn {turn['turn']}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return f"<h2>Turns, with 95 % bootstrap intervals</h2><table>{head}<tbody>{rows}</tbody></table>"


def _charts(summary: LoopSummary, folder: Path) -> Sequence[Chart]:
    points = [summary.before.mean, *(turn["independent"]["mean"] for turn in summary.turns)]
    runs = [
        list(read_rows(folder / "loop" / f"turn-{turn['turn']}" / "improve" / "metrics.jsonl"))
        for turn in summary.turns
    ]

    def curves(metric: str) -> tuple[Curve, ...]:
        return tuple(
            Curve(f"turn {number}", [row["step"] for row in rows], [row[metric] for row in rows])
            for number, rows in enumerate(runs, start=1)
        )

    accuracy = [turn["candidate_accuracy"]["mean"] for turn in summary.turns]
    return (
        Chart(INDEPENDENT_MEASURE, "turn", (Curve("policy", list(range(len(points))), points),)),
        Chart(
            "Held-out accuracy of the candidate",
            "rankings",
            (Curve("accuracy", [turn["labels"] for turn in summary.turns], accuracy),),
        ),
        Chart("Reward", "PPO step", curves("objective/scores")),
        Chart("KL to the reference, per sequence", "PPO step", curves("objective/kl")),
        Chart("Response length", "PPO step", curves("response/length")),
    )


def _pairs(results: LoopResults) -> list[SamplePair]:
    rows = list(zip(results.evaluations[0].rows, results.evaluations[-1].rows, strict=True))[:_SAMPLES]
    return [
        SamplePair(old.prompt, old.response, old.independent, new.response, new.independent)
        for old, new in rows
    ]
