"""Queues, and what an operator says of answers and prompts."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.feedback.connect import connect
from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import console, notices, table, write_json
from pilothouse.client import Adjustment, FeedbackClient, QueueSettings, TaskKind
from pilothouse.errors import ConfigError

Answer = Annotated[
    str | None,
    typer.Option("--answer", metavar="ID", help="The answer, as `tasks` and exports name it."),
]
PromptOf = Annotated[
    str | None, typer.Option("--prompt-of", metavar="TASK", help="The task whose prompt is meant.")
]
Lift = Annotated[bool, typer.Option("--lift", help="Takes it back.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for people.")]


def queues(
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Lists the queues and what is in them."""
    with connect(target, timeout, config, overrides) as client:
        found = client.queues()
    if json:
        write_json(found)
        return
    rows = table("queue", "kind", "overlap", "open", "leased", "done", "gold", "answers", "skips", "")
    for queue in found:
        settings = queue.settings
        rows.add_row(
            Text(settings.name),
            settings.kind,
            str(settings.overlap),
            *(str(count) for count in (queue.open_tasks, queue.leased, queue.done_tasks, queue.gold_tasks)),
            str(queue.submissions),
            str(queue.skips),
            "paused" if settings.paused else "",
        )
    console().print(rows)


def queue(
    name: Annotated[str, typer.Argument(help="Name of the queue.")],
    kind: Annotated[TaskKind | None, typer.Option(help="What its tasks ask for.")] = None,
    instructions: Annotated[str | None, typer.Option(help="Shown above every task.")] = None,
    overlap: Annotated[int | None, typer.Option(min=1, help="Raters for each task.")] = None,
    lease_seconds: Annotated[int | None, typer.Option(min=0, help="0 takes the service's default.")] = None,
    gold_every: Annotated[int | None, typer.Option(min=0, help="One gold task in so many; 0 none.")] = None,
    paused: Annotated[bool | None, typer.Option("--paused/--running", help="Hands out no tasks.")] = None,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Creates a queue, or changes what is given of an existing one."""
    given = {
        "kind": kind,
        "instructions": instructions,
        "overlap": overlap,
        "lease_seconds": lease_seconds,
        "gold_every": gold_every,
        "paused": paused,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    with connect(target, timeout, config, overrides) as client:
        known = {queue.settings.name: queue.settings for queue in client.queues()}
        before = known.get(name, QueueSettings(name=name))
        found = client.put_queue(replace(before, **changes))  # type: ignore[arg-type]
    if json:
        write_json(found)
        return
    notices().print(Text(f"queue {name}: {'changed' if name in known else 'created'}"))


def veto(
    answer: Answer = None,
    prompt_of: PromptOf = None,
    lift: Lift = False,
    reason: Reason = "",
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Vetoes an answer (it ranks below all others) or a prompt (it is left out)."""
    with connect(target, timeout, config, overrides) as client:
        _adjust(client, "veto", answer, prompt_of, lift, reason)


def flag(
    answer: Answer = None,
    prompt_of: PromptOf = None,
    lift: Lift = False,
    reason: Reason = "",
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Marks an answer or a prompt in exports."""
    with connect(target, timeout, config, overrides) as client:
        _adjust(client, "flag", answer, prompt_of, lift, reason)


def _adjust(
    client: FeedbackClient,
    kind: Adjustment,
    answer: str | None,
    prompt_of: str | None,
    lift: bool,
    reason: str,
) -> None:
    if (answer is None) == (prompt_of is None):
        raise ConfigError("give --answer or --prompt-of, one of the two")
    if answer is not None:
        client.adjust_answer(answer, kind, lift=lift, reason=reason)
    elif prompt_of is not None:
        client.adjust_prompt(prompt_of, kind, lift=lift, reason=reason)
    what = f"answer {answer}" if answer is not None else f"prompt of task {prompt_of}"
    done = f"{kind} lifted" if lift else {"veto": "vetoed", "flag": "flagged"}[kind]
    notices().print(Text(f"{what}: {done}"))
