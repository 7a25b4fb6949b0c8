"""Tasks of a queue: added from a file, and listed with the ids of their answers."""

import math
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from pilothouse.cli.feedback.connect import connect
from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import console, notices, table, write_json
from pilothouse.cli.rows import prompt_of, read_rows
from pilothouse.client import FeedbackTask
from pilothouse.client.collect import in_parts, task_id
from pilothouse.client.policy_codec import chat_message
from pilothouse.client.types import Chat
from pilothouse.errors import InvalidDataError


def add(
    queue: Annotated[str, typer.Argument(help="Queue to fill; `feedback queue` makes one.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines with `prompt` (text or chat messages) and, in a queue of rankings, `responses`; "
            "`gold_ranks` makes a gold task; `id`, `priority`, `source` may be there. - is stdin."
        ),
    ],
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Adds tasks: prompts to answer, or prompts with answers to rank. The same file again adds nothing."""
    tasks = [_task(queue, row, place) for place, row in read_rows(file)]
    if not tasks:
        raise InvalidDataError(f"{file} has no rows")
    different = {task.id: task for task in tasks}.values()
    with connect(target, timeout, config, overrides) as client:
        added = sum(client.add_tasks(queue, part) for part in in_parts(different))
    if json:
        write_json({"rows": len(tasks), "added": added})
        return
    notices().print(
        Text(f"{added} tasks added to {queue}; {len(tasks) - added} known already, or of vetoed prompts")
    )


def tasks(
    queue: Annotated[str, typer.Argument(help="Queue.")],
    task: Annotated[str, typer.Option("--task", help="Only the task with this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most tasks.")] = 100,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Lists the tasks that wait for people, with the ids of their answers, for `veto` and `flag`."""
    with connect(target, timeout, config, overrides) as client:
        found = list(islice((one for one in client.open_tasks(queue) if task in ("", one.id)), limit))
    if json:
        write_json(found)
        return
    rows = table("task", "answer", "text")
    for one in found:
        rows.add_row(Text(one.id), "", Text(_as_text(one.prompt), style="bold"))
        for answer in one.answers:
            if not isinstance(answer, str):
                rows.add_row("", Text(answer.id), Text(answer.text))
    console().print(rows)


def _task(queue: str, row: dict[str, Any], place: str) -> FeedbackTask:
    prompt, answers = prompt_of(row, place), _responses(row, place)
    ranks, priority = row.get("gold_ranks") or [], row.get("priority", 0.0)
    if not isinstance(ranks, list) or not all(type(rank) is int for rank in ranks):
        raise InvalidDataError(f"{place}: 'gold_ranks' must be a list of whole numbers, 1 for the best")
    if type(priority) not in (int, float) or not math.isfinite(priority):
        raise InvalidDataError(f"{place}: 'priority' must be a number")
    return FeedbackTask(
        id=str(row.get("id") or task_id(queue, prompt, answers)),
        prompt=prompt,
        answers=answers,
        priority=float(priority),
        gold_ranks=ranks,
        source=str(row.get("source", "")),
    )


def _responses(row: dict[str, Any], place: str) -> list[str]:
    found = row.get("responses") or []
    texts = [_answer(response) for response in found] if isinstance(found, list) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise InvalidDataError(
            f"{place}: 'responses' must be a list of texts, or of lists with one message of the assistant"
        )
    return [text for text in texts if text is not None]


def _answer(response: Any) -> str | None:
    """Returns a text, or that of the assistant's one message; None for anything else."""
    if isinstance(response, list) and len(response) == 1 and isinstance(response[0], dict):
        response = response[0].get("content") if response[0].get("role") == "assistant" else None
    return response if isinstance(response, str) else None


def _as_text(prompt: str | Chat) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{turn.role}: {turn.content}" for turn in map(chat_message, prompt))
