"""The data set's card, ``README.md``, as the Hugging Face hub reads it: equal for equal records."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pilothouse.feedback.formats import argilla, label_studio
from pilothouse.feedback.formats.columns import Column
from pilothouse.feedback.formats.contents import Contents
from pilothouse.feedback.formats.options import ExportOptions, Format, Split

NAME = "README.md"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_USES = {
    Format.RANKING: "`pilothouse train reward-model` reads it.",
    Format.PREFERENCE: "TRL's `DPOTrainer` and `RewardTrainer` read it.",
    Format.PREFERENCE_IMPLICIT: "TRL's `RewardTrainer` and `DPOTrainer` read it.",
    Format.UNPAIRED: "TRL's `KTOTrainer` reads it.",
    Format.DEMONSTRATION: "`pilothouse train sft` and TRL's `SFTTrainer` read it.",
    Format.LABEL_STUDIO: "Label Studio imports it.",
    Format.ARGILLA: "Argilla's `rg.Record.from_dict` takes every record.",
}
_COUNTED = {
    "rankings": "rankings",
    "corrections": "corrections: a person mended an answer",
    "demonstrations": "answers written from nothing",
    "pairs": "pairs of answers that are not tied",
    "raters": "people",
    "tasks": "tasks",
    "prompts": "prompts",
    "vetoed_rankings": "rankings left out because every answer is vetoed",
    "gold_rankings": "rankings left out because the right ranks were known before",
}
_COLLECTED = """\
## How it was collected

People put the answers to a prompt in order, or wrote and mended answers, on the page of Pilothouse's feedback
service. They did not see who wrote an answer, and each saw the answers in an order of their own. Equal ranks
are ties. An answer that an admin vetoed ranks below every other answer, whatever was said of it; prompts that
an admin vetoed are not in the data.

Where a person is named, it is by a random pseudonym, which nothing in the data links to the person.
"""


def card(
    description: Mapping[str, Any],
    contents: Contents,
    columns: Sequence[Column],
    options: ExportOptions,
    files: Sequence[str],
    records: int,
) -> str:
    """Returns the text of the card.

    Args:
        description: What the manifest says.
        contents: What is in the data set.
        columns: Of its tables.
        options: What was asked for.
        files: Names of the data files.
        records: Rows of all files.
    """
    parts = [
        _header(options, files, records),
        f"# People's judgements: {options.format}\n\n{_USES[options.format]}\n",
        _counts(description, records),
        _COLLECTED,
        _agreement(description["agreement"]),
        _columns(columns),
        _interface(contents, options.format),
    ]
    return "\n".join(part for part in parts if part)


def _header(options: ExportOptions, files: Sequence[str], records: int) -> str:
    size = next((name for limit, name in _SIZES if records < limit), "n>1M")
    lines = ["---", f"license: {options.licence}", "task_categories:", "- text-generation", "tags:"]
    lines += ["- human-feedback", "- preference", "- rlhf", "- pilothouse", "size_categories:", f"- {size}"]
    if not options.format.is_json:
        part = "test" if options.split is Split.HELD_OUT else "train"
        lines += ["configs:", "- config_name: default", "  data_files:"]
        lines += [line for name in files for line in (f"  - split: {part}", f"    path: {name}")]
    return "\n".join([*lines, "---\n"])


def _counts(description: Mapping[str, Any], records: int) -> str:
    lines = ["| count | of |", "| ---: | --- |", f"| {records} | records |"]
    lines += [f"| {number} | {_COUNTED[name]} |" for name, number in description["counts"].items() if number]
    if description["first_submitted_at"] is not None:
        first, last = (_day(description[name]) for name in ("first_submitted_at", "last_submitted_at"))
        lines.append(f"\nCollected from {first} to {last}.")
    if description["split"] != Split.ALL:
        part = "all but " if description["split"] == Split.TRAIN else ""
        lines.append(
            f"\nHolds {part}the {description['held_out_percent']} % of prompts that are held out; a prompt's "
            "part follows from the prompt alone and never changes."
        )
    return "\n".join(lines) + "\n"


def _agreement(measures: Mapping[str, Mapping[str, float | None]]) -> str:
    if not measures:
        return ""
    lines = ["## Agreement of the people\n", "| measure | value | 95 % interval |", "| --- | ---: | --- |"]
    for name, measure in measures.items():
        value, low, high = (
            "undefined" if measure[key] is None else f"{measure[key]:.3f}" for key in ("value", "low", "high")
        )
        lines.append(f"| {_plain(name)} | {value} | {low} to {high} |")
    return "\n".join(lines) + "\n"


def _columns(columns: Sequence[Column]) -> str:
    if not columns:
        return ""
    lines = ["## Columns\n", "| column | holds | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in columns]
    return "\n".join(lines) + "\n"


def _interface(contents: Contents, format: Format) -> str:
    """Returns what the other tool must be told before it takes the records."""
    sizes = sorted({len(item.ranks) for item in contents.rankings})
    if not sizes or not format.is_json:
        return ""
    if format is Format.LABEL_STUDIO:
        text = label_studio.config(sizes[-1], conversational=contents.conversational)
        return f"## Labelling interface\n\n```xml\n{text}```\n"
    texts = [argilla.settings(size, conversational=contents.conversational) for size in sizes]
    return "## Settings\n\nOne data set for each file.\n\n" + "\n".join(
        f"```python\n{text}```\n" for text in texts
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("|", "\\|")
