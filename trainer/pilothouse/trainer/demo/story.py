"""What a finished demo says: its summary, its table, its samples."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pilothouse.trainer.demo.recipe import Recipe
from pilothouse.trainer.demo.results import Results
from pilothouse.trainer.evaluate import INDEPENDENT_MEASURE, compare
from pilothouse.trainer.rankings import accuracy_from_json
from pilothouse.trainer.report import SamplePair
from pilothouse.trainer.statistics import Interval
from pilothouse.trainer.summary import Comparison, Summary, library_versions

_SAMPLES = 12
_SHOWN = 4


def summarise(recipe: Recipe, seed: int, run: str, results: Results) -> Summary:
    """Returns the summary of the finished stages."""
    before, after = results.evaluation("before"), results.evaluation("after")
    accuracy = json.loads((results.folder("reward-model") / "accuracy.json").read_text())
    export = results.stages["export"].outputs
    settings = {
        "SFT": recipe.sft,
        "reward model": recipe.reward_model,
        "PPO": recipe.ppo,
        "sizes": {name: getattr(recipe.sizes, name) for name in recipe.sizes.__slots__},
        "temperature": recipe.temperature,
        "most new tokens": recipe.max_new_tokens,
        "ONNX against torch, largest difference": export["max_abs_difference"],
    }
    digests = {
        "policy": ".".join(str(part) for part in after.version),
        "reward model": after.reward_version,
        "reference": after.reference_digest,
    }
    return Summary(
        run=run,
        seed=seed,
        model=recipe.model_name,
        reward_model=accuracy_from_json(accuracy),
        reward=compare(before, after, "score", "Held-out reward"),
        independent=compare(before, after, "independent", INDEPENDENT_MEASURE),
        kl_per_sequence=after.interval("kl"),
        response_tokens=compare(before, after, "tokens", "Response tokens"),
        eos_share=compare(before, after, "finished", "Share that ends by itself"),
        seconds=results.seconds(),
        limits=recipe.limits,
        versions=library_versions() | digests,
        settings=settings,
        notes=(*recipe.notes, _evaluation_note(recipe, len(after.rows))),
    )


def _evaluation_note(recipe: Recipe, prompts: int) -> str:
    return (
        f"Before and after are {prompts} held-out openings, one response each at the temperature of training "
        f"({recipe.temperature:g}), with the same seeds. Scores have mean 0 and deviation 1 on samples of "
        f"the SFT model. {INDEPENDENT_MEASURE} is sentiment by a lexicon that people rated; nothing was "
        "trained on it."
    )


def sample_pairs(results: Results) -> list[SamplePair]:
    """Returns the first held-out prompts with their responses before and after."""
    before, after = results.evaluation("before"), results.evaluation("after")
    rows = list(zip(before.rows, after.rows, strict=True))[:_SAMPLES]
    return [SamplePair(old.prompt, old.response, old.score, new.response, new.score) for old, new in rows]


def tell(console: Console, summary: Summary, pairs: list[SamplePair], report: Path) -> None:
    """Prints the final table."""
    console.print(_measures(summary))
    console.print(_times(summary))
    for pair in pairs[:_SHOWN]:
        console.print(f"[dim]{escape(pair.prompt)}[/dim]")
        console.print(f"   before {pair.before_score:+.2f} {escape(pair.before.strip())}", highlight=False)
        console.print(f"   after  {pair.after_score:+.2f} {escape(pair.after.strip())}", highlight=False)
    for condition in summary.conditions:
        mark = "[green]held[/green]  " if condition.passed else "[red]failed[/red]"
        console.print(f"{mark} {condition.name}: {escape(condition.detail)}", highlight=False)
    console.print(f"Report: {report}")


def _measures(summary: Summary) -> Table:
    table = Table(title=f"{summary.model}, seed {summary.seed}")
    for name in ("", "before", "after", "difference, 95 % interval"):
        table.add_column(name, justify="left" if not name else "right")
    accuracy = summary.reward_model.overall
    table.add_row(
        "Reward model, held-out pairs", "", _value(accuracy, ".1%"), f"{summary.reward_model.pairs} pairs"
    )
    for item in (summary.reward, summary.independent, summary.response_tokens, summary.eos_share):
        table.add_row(item.measure, f"{item.before.mean:.3f}", f"{item.after.mean:.3f}", _difference(item))
    budget = f"budget {summary.limits.kl_budget_nats:g}"
    table.add_row("KL per sequence, nats", "", _value(summary.kl_per_sequence, ".2f"), budget)
    return table


def _times(summary: Summary) -> Table:
    total = sum(summary.seconds.values())
    table = Table(title=f"Time, {total / 60:.1f} minutes in all")
    for name in summary.seconds:
        table.add_column(name, justify="right")
    table.add_row(*(f"{spent:.0f} s" for spent in summary.seconds.values()))
    table.add_row(*(f"{spent / total:.0%}" for spent in summary.seconds.values()))
    return table


def _difference(item: Comparison) -> str:
    change = item.difference
    return f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f})"


def _value(value: Interval, form: str) -> str:
    return f"{value.mean:{form}} ({value.low:{form}} to {value.high:{form}})"
