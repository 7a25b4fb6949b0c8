"""The card of a reward model: ``card.json`` for programs and ``README.md`` for people, beside the weights.

Neither belongs to the model: its version is that of weights, tokenizer and normaliser. Both equal
themselves byte for byte for the same run on the same data, wherever it lies.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilothouse.models.reward_files import CARD, README
from pilothouse.trainer.durable import to_json
from pilothouse.trainer.statistics import ends_told

Card = Mapping[str, Any]

_HEADER = """---
library_name: transformers
pipeline_tag: text-classification
tags:
- reward-model
- rlhf
- pilothouse
---
"""


def write_card(folder: Path, card: Card) -> None:
    """Writes the card into a model's folder, rounded to six digits: more are noise of the arithmetic."""
    rounded = _rounded(card)
    (folder / CARD).write_bytes(to_json(rounded))
    (folder / README).write_text(render(rounded), encoding="utf-8")


def render(card: Card) -> str:
    """Returns the card as text."""
    parts = [_about(card), _data(card)]
    if card["held_out"] is not None:
        report = card["held_out"]
        parts += [_accuracy(report), _calibration(report, card), _people(report), _length(report)]
    return _HEADER + "".join(parts)


def _about(card: Card) -> str:
    training, normaliser = card["training"], card["normaliser"]
    rows = [
        ("version", f"`{card['version']}`"),
        ("starts from", card["base_model"]),
        ("loss", f"{training['loss']}, ties: {training['ties']}"),
        ("seed", training["seed"]),
        ("epochs, rankings a step", f"{training['epochs']}, {training['batch_size']}"),
        ("learning rate", f"{training['learning_rate']:g}, {training['schedule']}"),
        ("longest sequence", f"{training['max_sequence_tokens']} tokens"),
        ("scores are", f"{normaliser['gain']:.6g} · raw {normaliser['bias']:+.6g}"),
        ("mean 0 and deviation 1 on", f"{normaliser['samples']} {normaliser['of']}"),
    ]
    if card["member"] is not None:
        drawn = ", prompts drawn with replacement" if card["member"]["bootstrap"] else ""
        rows.insert(1, ("member", f"{card['member']['number']} of an ensemble{drawn}"))
    text = "A scalar for a prompt and an answer: the higher, the more people would prefer the answer.\n"
    return f"\n# Reward model\n\n{text}\n{_table(('', ''), rows)}"


def _data(card: Card) -> str:
    names = ("rankings", "pairs", "prompts", "raters")
    parts = [(part, card["data"][part]) for part in ("training", "held_out")]
    rows = [(part.replace("_", "-"), *(body[name] for name in names)) for part, body in parts if body]
    files = [
        (part.replace("_", "-"), file["name"], f"`{file['blake3']}`")
        for part, body in parts
        if body
        for file in body["files"]
    ]
    return (
        f"\n## Data\n\n{_table(('', *names), rows)}\nPairs are untied. Raters are counted where they are "
        f"named.\n\n{_table(('', 'file', 'BLAKE3'), files)}"
    )


def _accuracy(report: Card) -> str:
    return (
        f"\n## Held-out accuracy\n\n{_share(report['overall'])} of {report['pairs']} pairs are in the "
        "people's order. Intervals here are 95 % of a bootstrap over prompts; every ranking counts alike.\n"
    )


def _calibration(report: Card, card: Card) -> str:
    found = report["calibration"]
    rows = [
        (
            f"{row['low']:.0%} to {row['high']:.0%}",
            row["pairs"],
            _part(row["confidence"]),
            _share(row["accuracy"]),
        )
        for row in found["table"]
    ]
    return (
        "\n## Calibration\n\nConfidence is sigmoid(|difference of scores|), of the scores that were "
        f"trained.\n\n{_table(('confidence', 'pairs', 'mean confidence', 'accuracy'), rows)}\n"
        f"Expected calibration error: {_share(found['error'])}. The best temperature would be "
        f"{_number(found['temperature'])}, which takes the loss from {found['loss']:.3f} to "
        f"{found['loss_at_temperature']:.3f} nats a pair. It is not applied: for the scores as served, whose "
        f"deviation is 1, it would be {card['served_temperature']:.3g}.\n"
    )


def _people(report: Card) -> str:
    found = report["agreement"]
    if found is None:
        return "\n## People\n\nNo two raters have ranked the same held-out answers.\n"
    rows = [
        (f"{row['low']:.0%} to {row['high']:.0%}", row["pairs"], _share(row["people"]), _share(row["model"]))
        for row in (*found["buckets"], found["overall"])
    ]
    return (
        f"\n## People\n\n{found['raters']} raters have ranked {found['tasks']} held-out tasks in common. How "
        "often two of them agree, and how often the model agrees with one, by the model's confidence:\n\n"
        f"{_table(('confidence', 'pairs', 'people', 'model'), rows)}"
    )


def _length(report: Card) -> str:
    found = report["length"]
    pairs = [
        ("the longer answer", found["longer_pairs"], _share(found["longer_accuracy"])),
        ("the shorter answer", found["shorter_pairs"], _share(found["shorter_accuracy"])),
    ]
    correlations = [
        ("Pearson", _number(found["pearson"])),
        ("Spearman", _number(found["spearman"])),
        ("Pearson, people's ranks held", _number(found["partial"])),
    ]
    return (
        f"\n## Length\n\n{_table(('people prefer', 'pairs', 'accuracy'), pairs)}\n"
        f"{_table(('score and length within a prompt', 'correlation'), correlations)}"
    )


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |\n" for line in lines)


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _share(interval: Card | None) -> str:
    if interval is None:
        return ""
    return f"{interval['mean']:.1%} ({ends_told(interval, '.1%')})"


def _number(interval: Card | None) -> str:
    if interval is None:
        return "undefined"
    return f"{interval['mean']:.2f} ({ends_told(interval, '.2f')})"


def _rounded(value: Any) -> Any:
    """Returns JSON with its floats rounded to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
