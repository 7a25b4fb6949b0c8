"""Asks policies for answers to rank."""

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.feedback.connect import connect
from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import notices, progress, write_json
from pilothouse.cli.rows import prompt_of, read_rows
from pilothouse.cli.targets import find
from pilothouse.client import PolicyClient, SamplingParams
from pilothouse.client.collect import AnsweringPolicy, in_parts, sample_tasks
from pilothouse.errors import ConfigError, InvalidDataError


def sample(
    queue: Annotated[str, typer.Argument(help="Queue to fill; `feedback queue` makes one.")],
    prompts: Annotated[
        Path, typer.Argument(help="JSON Lines with a column `prompt`: text, or chat messages; - is stdin.")
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="[NAME=]HOST:PORT",
            help="A policy service that answers; may be repeated. Else the one that `up` started. NAME is "
            "stored as the model, else what the service says that it serves.",
        ),
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", min=0, help="Each policy answers at each; may be repeated."),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Answers of each policy at each temperature.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Most prompts; 0 takes all.")] = 0,
    target: Target = None,
    timeout: Timeout = 600.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Lets policies answer prompts, and queues the answers to be ranked.

    Raters see neither who wrote an answer nor at which temperature; both are stored with it.
    """
    places, asked = [], []
    for place, row in islice(read_rows(prompts), limit or None):
        places.append(place)
        asked.append(prompt_of(row, place))
    if not asked:
        raise InvalidDataError(f"{prompts} has no rows")
    named = [_named(text) for text in policy or [find("policy", None, config, overrides or [])]]
    added = sampled = 0
    with ExitStack() as stack:
        policies = _policies(stack, named, temperature or [1.0], n, max_new_tokens, timeout)
        client = stack.enter_context(connect(target, timeout, config, overrides))
        tasks = sample_tasks(asked, policies, queue=queue, seed=seed, source=prompts.name, places=places)
        with progress("sampling answers") as tell:
            for part in in_parts(tasks):
                added += client.add_tasks(queue, part)
                sampled += len(part)
                tell(f"{sampled} of {len(asked)} prompts answered, {added} tasks added")
    if json:
        write_json({"prompts": len(asked), "tasks": sampled, "added": added})
        return
    notices().print(
        Text(
            f"{added} tasks added to {queue}; {sampled - added} were there already, "
            f"{len(asked) - sampled} prompts got fewer than two different answers"
        )
    )


def _named(text: str) -> tuple[str, str]:
    """Splits ``NAME=HOST:PORT``; the name is empty where there is none."""
    name, equals, address = text.rpartition("=")
    if equals and not name:
        raise ConfigError(f"'{text}' has an empty name; write NAME=HOST:PORT or HOST:PORT")
    return name, address


def _policies(
    stack: ExitStack,
    named: list[tuple[str, str]],
    temperatures: list[float],
    n: int,
    max_new_tokens: int,
    timeout: float,
) -> list[AnsweringPolicy]:
    """Returns every policy at each temperature, under the given name or the one that the service tells."""
    policies = []
    for name, address in named:
        client = stack.enter_context(PolicyClient(address, timeout_seconds=timeout))
        known = name or _model(client)
        policies += [
            AnsweringPolicy(
                name=known,
                client=client,
                sampling=SamplingParams(temperature=heat, max_new_tokens=max_new_tokens),
                n=n,
            )
            for heat in temperatures
        ]
    return policies


def _model(client: PolicyClient) -> str:
    """Returns the served model's name and the beginning of its digest: names are those of folders."""
    served = client.model()
    return f"{served.model}@{served.digest[:12]}"
