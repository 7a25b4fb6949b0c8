"""``score``: scores responses with the reward service."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pilothouse.cli.options import ConfigFile, JsonLines, Overrides, Target, Timeout
from pilothouse.cli.output import console, table, write_json
from pilothouse.cli.rows import read_rows, text_of
from pilothouse.cli.targets import find
from pilothouse.client import RewardClient, Scores
from pilothouse.errors import ConfigError, InvalidDataError

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="JSON Lines with columns `prompt` and `response` or `completion`; - is stdin.",
    ),
]


def score(
    prompt: Annotated[str | None, typer.Argument(help="What was asked; may be empty.")] = None,
    response: Annotated[str | None, typer.Argument(help="The answer to score.")] = None,
    file: File = None,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: JsonLines = False,
) -> None:
    """Scores responses with the reward service."""
    pairs = pairs_of(prompt, response, file)
    address = find("reward", target, config, overrides or [])
    with RewardClient(address, timeout_seconds=timeout) as reward:
        scores = reward.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    if json:
        for index in range(len(pairs)):
            write_json(_row(scores, index), lines=True)
        return
    names = [part.name for part in scores.components] if len(scores.components) > 1 else []
    rows = table("score", *names, "response")
    for index, (_, answer) in enumerate(pairs):
        row = _row(scores, index)
        parts = [f"{row['components'][name]:.4f}" for name in names]
        rows.add_row(f"{row['score']:.4f}", *parts, Text(answer))
    console().print(rows)


def pairs_of(prompt: str | None, response: str | None, file: Path | None) -> list[tuple[str, str]]:
    """Returns prompts and responses, from the arguments or from a file.

    Raises:
        ConfigError: Neither or both were given.
        InvalidDataError: The file has no rows, or a row lacks a column.
    """
    if file is not None and prompt is None:
        pairs = [
            (text_of(row, place, "prompt"), text_of(row, place, "response", "completion"))
            for place, row in read_rows(file)
        ]
        if not pairs:
            raise InvalidDataError(f"{file} has no rows")
        return pairs
    if file is None and prompt is not None and response is not None:
        return [(prompt, response)]
    raise ConfigError("give PROMPT and RESPONSE, or --file, one of the two")


def _row(scores: Scores, index: int) -> dict[str, Any]:
    return {
        "score": float(scores.values[index]),
        "components": {part.name: float(part.values[index]) for part in scores.components},
        "reward_version": scores.reward_version,
    }
