"""``generate``: samples completions from the policy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pilothouse.cli.options import ConfigFile, JsonLines, Overrides, Target, Timeout
from pilothouse.cli.output import console, write_json
from pilothouse.cli.rows import read_rows, text_of
from pilothouse.cli.targets import find
from pilothouse.client import Completion, PolicyClient, SamplingParams
from pilothouse.errors import ConfigError, InvalidDataError

Prompts = Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Texts to continue.")]
File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="JSON Lines with a column `prompt`: text, or chat messages; - is stdin.",
    ),
]
Chat = Annotated[bool, typer.Option("--chat", help="Put every prompt into the model's chat template.")]
Count = Annotated[int, typer.Option("-n", min=1, help="Completions per prompt.")]
Seed = Annotated[int | None, typer.Option(help="Makes the answers repeatable; prompt i takes seed + i.")]
Stops = Annotated[
    list[str] | None, typer.Option("--stop", help="Text that ends a completion; may be repeated.")
]


def generate(
    prompts: Prompts = None,
    file: File = None,
    chat: Chat = False,
    n: Count = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion in tokens.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Share of probability kept.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Tokens kept; 0 keeps all.")] = 0,
    stop: Stops = None,
    seed: Seed = None,
    target: Target = None,
    timeout: Timeout = 300.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: JsonLines = False,
) -> None:
    """Samples completions from the policy.

    Every completion is shown when it ends, so those of one call may come in any order.
    """
    asked = _prompts(prompts or [], file, chat)
    sampling = SamplingParams(
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_new_tokens=max_new_tokens,
        stop_strings=stop or (),
    )
    seeds = None if seed is None else [seed + index for index in range(len(asked))]
    address = find("policy", target, config, overrides or [])
    with PolicyClient(address, timeout_seconds=timeout) as policy:
        for event in policy.stream(asked, sampling, n=n, seeds=seeds):
            if isinstance(event, Completion):
                _show(event, asked, json)


def _prompts(given: list[str], file: Path | None, chat: bool) -> list[Any]:
    """Returns texts or conversations, all of one kind, as one request must have them."""
    if bool(given) == (file is not None):
        raise ConfigError("give prompts as arguments or with --file, one of the two")
    found: list[Any] = [[("user", text)] if chat else text for text in given]
    for place, row in read_rows(file) if file is not None else ():
        if isinstance(row.get("prompt"), list):
            found.append(row["prompt"])
        else:
            text = text_of(row, place, "prompt")
            found.append([("user", text)] if chat else text)
        if isinstance(found[-1], str) != isinstance(found[0], str):
            raise InvalidDataError(
                f"{place}: texts and conversations are mixed; use --chat, or split the file"
            )
    if not found:
        raise InvalidDataError(f"{file} has no rows")
    return found


def _show(completion: Completion, prompts: list[Any], json: bool) -> None:
    prompt = prompts[completion.prompt_index]
    if json:
        write_json(
            {
                "prompt_index": completion.prompt_index,
                "sample_index": completion.sample_index,
                "prompt": prompt,
                "text": completion.text,
                "tokens": completion.tokens,
                "logprobs": completion.logprobs,
                "finish_reason": completion.finish_reason,
                "version_spans": list(completion.version_spans),
                "prompt_tokens": completion.prompt_tokens,
            },
            lines=True,
        )
        return
    shown = Text(prompt if isinstance(prompt, str) else "", style="dim")
    console().print(shown.append(completion.text, style="not dim"))
