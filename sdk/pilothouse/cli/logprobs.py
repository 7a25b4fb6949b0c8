"""``logprobs``: log-probabilities of given responses, under the policy or the reference model."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pilothouse.cli.options import ConfigFile, JsonLines, Overrides, Target, Timeout
from pilothouse.cli.output import console, table, write_json
from pilothouse.cli.rows import read_rows, text_of
from pilothouse.cli.targets import find
from pilothouse.client import (
    PolicyClient,
    PolicyLogprobs,
    ReferenceClient,
    ReferenceLogprobs,
    TokenisedTexts,
)
from pilothouse.errors import ConfigError, InvalidDataError

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="JSON Lines with `prompt` and `response` or `completion`, or `tokens` and `prompt_length`.",
    ),
]


Answer = PolicyLogprobs | ReferenceLogprobs


class Model(StrEnum):
    """Whose log-probabilities."""

    policy = "policy"
    reference = "reference"


Unfinished = Annotated[
    bool, typer.Option("--unfinished", help="The answers go on: no end token is put after them.")
]


def logprobs(
    prompt: Annotated[str | None, typer.Argument(help="What was asked.")] = None,
    response: Annotated[str | None, typer.Argument(help="The answer.")] = None,
    file: File = None,
    unfinished: Unfinished = False,
    model: Annotated[Model, typer.Option(help="Whose log-probabilities.")] = Model.policy,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Divides the logits.")] = 1.0,
    target: Target = None,
    timeout: Timeout = 300.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: JsonLines = False,
) -> None:
    """Returns the log-probabilities of given responses.

    In nats, one for every token of the response, under the policy now serving or the frozen reference model.
    """
    asked = _asked(prompt, response, file)
    request = asked.arguments(unfinished) | {"temperature": temperature}
    address = find(model, target, config, overrides or [])
    answer, version = _ask(model, address, request, timeout)
    if json:
        _show_json(asked, answer, version)
    else:
        _show(asked, answer)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Rows of one kind, as a request must have them: texts, or token ids."""

    texts: list[tuple[str, str]]
    tokens: list[tuple[list[int], int]]

    def arguments(self, unfinished: bool) -> dict[str, Any]:
        """Returns them as the clients take them."""
        if self.tokens:
            if unfinished:
                raise ConfigError("--unfinished is for texts; token ids are taken as they are")
            return {
                "sequences": [row for row, _ in self.tokens],
                "prompt_lengths": [length for _, length in self.tokens],
            }
        return {
            "prompts": [prompt for prompt, _ in self.texts],
            "responses": [response for _, response in self.texts],
            "unfinished": unfinished,
        }


def _asked(prompt: str | None, response: str | None, file: Path | None) -> _Asked:
    if prompt is not None and response is not None and file is None:
        return _Asked([(prompt, response)], [])
    if prompt is not None or file is None:
        raise ConfigError("give PROMPT and RESPONSE, or --file, one of the two")
    asked = _Asked([], [])
    for place, row in read_rows(file):
        if "tokens" in row:
            asked.tokens.append(_given(row, place))
        else:
            answer = text_of(row, place, "response", "completion")
            asked.texts.append((text_of(row, place, "prompt"), answer))
        if asked.texts and asked.tokens:
            raise InvalidDataError(f"{place}: texts and token ids are mixed; split the file")
    if not asked.texts and not asked.tokens:
        raise InvalidDataError(f"{file} has no rows")
    return asked


def _given(row: dict[str, Any], place: str) -> tuple[list[int], int]:
    tokens, length = row["tokens"], row.get("prompt_length")
    whole = isinstance(tokens, list) and all(type(token) is int for token in tokens)
    if not whole or type(length) is not int:
        raise InvalidDataError(f"{place}: 'tokens' must be a list of integers and 'prompt_length' an integer")
    return tokens, length


def _ask(
    model: Model, address: str, request: dict[str, Any], timeout: float
) -> tuple[Answer, dict[str, Any]]:
    if model is Model.policy:
        with PolicyClient(address, timeout_seconds=timeout) as policy:
            answer: PolicyLogprobs = policy.logprobs(**request)
        return answer, {"epoch": answer.epoch, "version": answer.version}
    with ReferenceClient(address, timeout_seconds=timeout) as reference:
        frozen: ReferenceLogprobs = reference.logprobs(**request)
    return frozen, {"reference_digest": frozen.reference_digest}


def _show_json(asked: _Asked, answer: Answer, version: dict[str, Any]) -> None:
    made = answer.tokenised
    for index, values in enumerate(answer.rows):
        row: dict[str, Any] = {}
        if made is None:
            row["tokens"], row["prompt_length"] = asked.tokens[index]
        else:
            row["tokens"], row["prompt_length"] = made.sequences[index], made.prompt_lengths[index]
            row["pieces"] = _pieces(asked, made, index)
        write_json({**row, "logprobs": values, "sum": float(values.sum()), **version}, lines=True)


def _show(asked: _Asked, answer: Answer) -> None:
    rows = table("tokens", "sum", "mean", "log-probabilities")
    for index, values in enumerate(answer.rows):
        pieces = _pieces(asked, answer.tokenised, index)
        listed = " ".join(
            f"{piece}={value:.3f}" if piece else f"{value:.3f}"
            for piece, value in zip(pieces or [""] * len(values), values, strict=True)
        )
        mean = f"{values.mean():.4f}" if len(values) else ""
        rows.add_row(str(len(values)), f"{values.sum():.4f}", mean, Text(listed))
    console().print(rows)


def _pieces(asked: _Asked, made: TokenisedTexts | None, index: int) -> list[str]:
    """Returns the text of every response token; none where token ids were given."""
    if made is None:
        return []
    response = asked.texts[index][1]
    return [response[start:end] for start, end in made.spans[index].tolist()]
