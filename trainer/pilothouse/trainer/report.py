"""``report.html``: one file with its curves inside, readable offline, in light and dark."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from pilothouse.trainer.charts import Chart
from pilothouse.trainer.statistics import Interval
from pilothouse.trainer.summary import Comparison, Condition, Summary


@dataclass(frozen=True, slots=True)
class SamplePair:
    """The same prompt and seed answered before and after training."""

    prompt: str
    before: str
    before_score: float
    after: str
    after_score: float


def write_report(
    summary: Summary, charts: Sequence[Chart], samples: Sequence[SamplePair], folder: Path
) -> Path:
    """Writes ``report.html`` into the folder, whole or not at all, and returns its path."""
    file = folder / "report.html"
    partial = folder / ".report.html.partial"
    partial.write_text(render(summary, charts, samples), encoding="utf-8")
    os.replace(partial, file)
    return file


def render(summary: Summary, charts: Sequence[Chart], samples: Sequence[SamplePair]) -> str:
    """Returns the page of a run."""
    minutes = sum(summary.seconds.values()) / 60
    facts = f"{summary.model}, seed {summary.seed}, {minutes:.1f} minutes"
    body = "".join(
        (
            header(summary.run, facts, summary.conditions),
            _cards(summary),
            chart_section(charts),
            sample_section(samples),
            _tables(summary),
            notes_section(summary.notes, {**summary.settings, **summary.versions}),
        )
    )
    return page(summary.run, body)


def page(name: str, body: str) -> str:
    """Returns a page around ``body``, which is HTML. It holds no script and loads nothing."""
    style = resources.files("pilothouse.trainer").joinpath("report.css").read_text(encoding="utf-8")
    title = escape(f"Pilothouse: {name}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def header(name: str, facts: str, conditions: Sequence[Condition]) -> str:
    """Returns the top of a page: the run's name and whether its conditions held."""
    passed = all(item.passed for item in conditions)
    verdict = "every condition held" if passed else "a condition did not hold"
    rows = "".join(
        f'<li class="{"good" if item.passed else "bad"}"><strong>{escape(item.name)}</strong>'
        f"<span>{escape(item.detail)}</span></li>"
        for item in conditions
    )
    return (
        f'<header><p class="brand">Pilothouse</p><h1>{escape(name)}</h1>'
        f'<p class="verdict {"good" if passed else "bad"}">{verdict}</p>'
        f'<p class=dim>{escape(facts)}</p></header><ul class="conditions">{rows}</ul>'
    )


def _cards(summary: Summary) -> str:
    accuracy = summary.reward_model.overall
    cards = (
        (
            "Reward model, held-out pairs",
            f"{accuracy.mean:.1%}",
            f"{accuracy.low:.1%} to {accuracy.high:.1%}",
        ),
        ("Held-out reward", f"{summary.reward.difference.mean:+.2f}", _from_to(summary.reward)),
        (
            summary.independent.measure,
            f"{summary.independent.difference.mean:+.2f}",
            _from_to(summary.independent),
        ),
        (
            "KL per sequence",
            f"{summary.kl_per_sequence.mean:.1f} nats",
            f"budget {summary.limits.kl_budget_nats:g}",
        ),
    )
    items = "".join(
        f"<div class=card><p>{escape(name)}</p><b>{escape(value)}</b><span>{escape(detail)}</span></div>"
        for name, value, detail in cards
    )
    return f"<section class=cards>{items}</section>"


def _from_to(comparison: Comparison) -> str:
    return f"from {comparison.before.mean:.2f} to {comparison.after.mean:.2f}"


def chart_section(charts: Sequence[Chart]) -> str:
    """Returns the curves; nothing where there are none."""
    figures = []
    for chart in charts:
        keys = "".join(
            f'<span class="key c{index}">{escape(curve.name)}</span>'
            for index, curve in enumerate(chart.curves)
        )
        figures.append(
            f"<figure><figcaption><b>{escape(chart.title)}</b>{keys}</figcaption>{chart.svg()}</figure>"
        )
    return f"<h2>Curves</h2><section class=charts>{''.join(figures)}</section>" if figures else ""


def sample_section(samples: Sequence[SamplePair]) -> str:
    """Returns what was answered before and after."""
    rows = "".join(
        f"<tr><td>{_text(item.prompt, item.before)}<small>{item.before_score:+.2f}</small></td>"
        f"<td>{_text(item.prompt, item.after)}<small>{item.after_score:+.2f}</small></td></tr>"
        for item in samples
    )
    head = "<thead><tr><th>Before</th><th>After</th></tr></thead>"
    return f'<h2>The same prompts and seeds</h2><table class="samples">{head}<tbody>{rows}</tbody></table>'


def _text(prompt: str, response: str) -> str:
    return f"<i>{escape(prompt)}</i>{escape(response)}"


def _tables(summary: Summary) -> str:
    measures = "".join(
        f"<tr><th>{escape(name)}</th><td>{interval_cell(item.before)}</td><td>{interval_cell(item.after)}</td>"
        f"<td>{interval_cell(item.difference, sign=True)}</td></tr>"
        for name, item in (
            ("Held-out reward", summary.reward),
            (summary.independent.measure, summary.independent),
            ("Response tokens", summary.response_tokens),
            ("Share that ends by itself", summary.eos_share),
        )
    )
    head = "<thead><tr><th></th><th>Before</th><th>After</th><th>Difference, paired</th></tr></thead>"
    buckets = "".join(
        f"<tr><th>{item.low:.1f} to {item.high:.1f}</th><td>{item.pairs}</td>"
        f"<td>{f'{item.accuracy:.1%}' if item.pairs else ''}</td></tr>"
        for item in summary.reward_model.buckets
    )
    total = sum(summary.seconds.values()) or 1.0
    stages = "".join(
        f"<tr><th>{escape(name)}</th><td>{spent:.0f} s</td>"
        f'<td class=bar><i style="width:{spent / total:.1%}"></i>{spent / total:.0%}</td></tr>'
        for name, spent in summary.seconds.items()
    )
    return (
        f"<h2>Measures, with 95 % bootstrap intervals</h2><table>{head}<tbody>{measures}</tbody></table>"
        "<div class=columns><section><h2>Reward model by confidence</h2><table><thead><tr><th>Confidence</th>"
        f"<th>Pairs</th><th>Right</th></tr></thead><tbody>{buckets}</tbody></table></section>"
        f"<section><h2>Time</h2><table><tbody>{stages}</tbody></table></section></div>"
    )


def interval_cell(value: Interval, *, sign: bool = False) -> str:
    """Returns a mean and its interval, as HTML."""
    form = "+.3f" if sign else ".3f"
    return f"{value.mean:{form}} <small>[{value.low:{form}}, {value.high:{form}}]</small>"


def notes_section(notes: Sequence[str], facts: Mapping[str, object]) -> str:
    """Returns how a run was made, in words and in settings."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    rows = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in facts.items()
    )
    return (
        f"<h2>How it was made</h2><ul class=notes>{items}</ul>"
        f"<details><summary>Settings and versions</summary><table>{rows}</table></details>"
    )
