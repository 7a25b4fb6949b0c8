"""``logprobs``: log-probabilities of given responses, under the policy or the reference model."""

import importlib.metadata
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from pilothouse.cli.lazy import missing_library
from pilothouse.cli.options import ConfigFile, JsonLines, Overrides, Target, Timeout
from pilothouse.cli.output import console, table, write_json
from pilothouse.cli.rows import read_rows, text_of
from pilothouse.cli.targets import find
from pilothouse.client import PolicyClient, ReferenceClient
from pilothouse.errors import ConfigError, InvalidDataError
from pilothouse.sections import load_section
from pilothouse.tensors import Floats

CODECS = "pilothouse.codecs"
"""Entry-point group of tokenizers: a class with ``load(folder)`` whose objects have
``encode(text, special_tokens=...)``."""

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="JSON Lines with `prompt` and `response` or `completion`, or `tokens` and `prompt_length`.",
    ),
]


class Model(StrEnum):
    """Whose log-probabilities."""

    policy = "policy"
    reference = "reference"


Tokenizer = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Folder with the tokenizer; else that of the configured model."),
]


def logprobs(
    prompt: Annotated[str | None, typer.Argument(help="What was asked.")] = None,
    response: Annotated[
        str | None, typer.Argument(help="The answer, taken as it is: no end token is added.")
    ] = None,
    file: File = None,
    model: Annotated[Model, typer.Option(help="Whose log-probabilities.")] = Model.policy,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Divides the logits.")] = 1.0,
    tokenizer: Tokenizer = None,
    target: Target = None,
    timeout: Timeout = 300.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: JsonLines = False,
) -> None:
    """Returns the log-probabilities of given responses.

    In nats, one for every token of the response, under the policy now serving or the frozen reference model.
    """
    settings = overrides or []
    codec = _Codec(model, tokenizer, config, settings)
    sequences = _sequences(prompt, response, file, codec)
    address = find(model, target, config, settings)
    tokens, lengths = [row for row, _ in sequences], [length for _, length in sequences]
    results, version = _ask(model, address, tokens, lengths, temperature, timeout)
    if json:
        for (row, length), values in zip(sequences, results, strict=True):
            total = {"sum": float(values.sum()), **version}
            write_json({"tokens": row, "prompt_length": length, "logprobs": values, **total}, lines=True)
    else:
        _show(results)


def _show(results: list[Floats]) -> None:
    rows = table("tokens", "sum", "mean", "log-probabilities")
    for values in results:
        listed = Text(" ".join(f"{value:.3f}" for value in values))
        rows.add_row(str(len(values)), f"{values.sum():.4f}", f"{values.mean():.4f}", listed)
    console().print(rows)


class _Codec:
    """A tokenizer that is loaded when the first text comes."""

    def __init__(self, model: Model, folder: str | None, file: Path | None, overrides: list[str]) -> None:
        self._model, self._folder, self._file, self._overrides = model, folder, file, overrides
        self._loaded: Any = None

    def encode(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """Returns token ids.

        Args:
            text: Any text.
            special_tokens: Add those that the tokenizer puts around a text that stands by itself.

        Raises:
            ConfigError: The libraries for it are missing.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return [int(token) for token in self._loaded.encode(text, special_tokens=special_tokens)]

    def _load(self) -> Any:
        section: Any = load_section(self._model, file=self._file, overrides=self._overrides)
        for entry in importlib.metadata.entry_points(group=CODECS, name="text"):
            try:
                return entry.load().load(self._folder or section.model)
            except ModuleNotFoundError as error:
                raise ConfigError(missing_library(error, entry.value, "turning text into tokens")) from error
        raise ConfigError(
            "no tokenizer is installed; pip install 'pilothouse[models]', or give --file with tokens"
        )


def _sequences(
    prompt: str | None, response: str | None, file: Path | None, codec: _Codec
) -> list[tuple[list[int], int]]:
    if prompt is not None and response is not None and file is None:
        return [_joined(codec, prompt, response)]
    if prompt is not None or file is None:
        raise ConfigError("give PROMPT and RESPONSE, or --file, one of the two")
    found = []
    for place, row in read_rows(file):
        if "tokens" in row:
            found.append(_given(row, place))
        else:
            answer = text_of(row, place, "response", "completion")
            found.append(_joined(codec, text_of(row, place, "prompt"), answer))
    if not found:
        raise InvalidDataError(f"{file} has no rows")
    return found


def _joined(codec: _Codec, prompt: str, response: str) -> tuple[list[int], int]:
    before = codec.encode(prompt)
    # The response goes on where the prompt ends: a BOS would part the two.
    return before + codec.encode(response, special_tokens=False), len(before)


def _given(row: dict[str, Any], place: str) -> tuple[list[int], int]:
    tokens, length = row["tokens"], row.get("prompt_length")
    whole = isinstance(tokens, list) and all(type(token) is int for token in tokens)
    if not whole or type(length) is not int:
        raise InvalidDataError(f"{place}: 'tokens' must be a list of integers and 'prompt_length' an integer")
    return tokens, length


def _ask(
    model: Model,
    address: str,
    tokens: list[list[int]],
    lengths: list[int],
    temperature: float,
    timeout: float,
) -> tuple[list[Floats], dict[str, Any]]:
    prompt_lengths = np.asarray(lengths, np.int32)
    if model is Model.policy:
        with PolicyClient(address, timeout_seconds=timeout) as policy:
            answer = policy.logprobs(tokens, prompt_lengths, temperature)
        return answer.rows, {"epoch": answer.epoch, "version": answer.version}
    with ReferenceClient(address, timeout_seconds=timeout) as reference:
        frozen = reference.logprobs(tokens, prompt_lengths, temperature)
    return frozen.rows, {"reference_digest": frozen.reference_digest}
