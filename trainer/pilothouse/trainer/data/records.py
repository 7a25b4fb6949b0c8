"""What people give: prompts, demonstrations and rankings, under the column names of TRL's data sets.

==============  ==================================================================================
prompts         ``prompt``
demonstrations  ``prompt`` + ``completion`` | ``text`` | ``messages``
rankings        ``prompt`` + ``responses`` + ``ranks`` | [``prompt`` +] ``chosen`` + ``rejected``
==============  ==================================================================================

A prompt is a text or a conversation (a list of ``{"role", "content"}``), and so are ``completion``,
``chosen`` and ``rejected``. Where ``prompt`` is missing beside ``chosen`` and ``rejected``, it is what both
begin with; two dialogues in the form of hh-rlhf are conversations, see `pilothouse.trainer.data.dialogues`.
A ranking may also have ``weight``, ``task`` and ``rater``. Other columns are ignored.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.data.dialogues import Dialogues, last_answers, parse_dialogue
from pilothouse.trainer.data.files import Record, read_records
from pilothouse.trainer.data.messages import Chat, as_chat, common_chat, common_text, final_answer

Files = Path | str | Sequence[Path | str]
"""One data file or several."""
Item = TypeVar("Item")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the policy is asked to continue."""

    id: str
    content: str | Chat
    """A text to continue, or a conversation to answer."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer that a person wrote."""

    id: str
    prompt: str | Chat
    """Empty where the whole text is to be learned."""
    completion: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """Several answers to one prompt, put in order by a person."""

    id: str
    prompt: str | Chat
    """May be empty."""
    responses: tuple[str, ...]
    """K >= 2 answers."""
    ranks: tuple[int, ...]
    """Rank of each answer, smaller is better; equal ranks are ties."""
    weight: float = 1.0
    """How much it counts in training, in (0, 1]."""
    task: str = ""
    """Rankings of the same task are of the same answers; empty where unknown."""
    rater: str = ""
    """Who put them in order; empty where unknown."""


def read_prompts(files: Files) -> list[Prompt]:
    """Reads prompts; other columns are ignored.

    Raises:
        InvalidDataError: A file or a record cannot be used; the message names file, line and mend.
    """
    return _some(
        [Prompt(record.id, _content(record, "prompt")) for record in read_records(files)], files, "prompts"
    )


def read_demonstrations(files: Files) -> list[Demonstration]:
    """Reads demonstrations. A conversation gives one for every answer of the assistant in it.

    Raises:
        InvalidDataError: A file or a record cannot be used; the message names file, line and mend.
    """
    found = [item for record in read_records(files) for item in _demonstrations(record)]
    return _some(found, files, "demonstrations")


def read_rankings(files: Files, *, dialogues: Dialogues = "auto") -> list[Ranking]:
    """Reads rankings and pairs. Those of weight 0, and dialogues that differ before their end, are left out.

    Args:
        files: One data file or several.
        dialogues: What ``chosen`` and ``rejected`` are that hold a whole dialogue in one text.

    Raises:
        InvalidDataError: A file or a record cannot be used; the message names file, line and mend.
    """
    found, left_out = [], Counter[str]()
    for record in read_records(files):
        ranking = _judgement(record, dialogues)
        if ranking is None:
            left_out["differ_before_the_last_answer"] += 1
        elif ranking.weight == 0:
            left_out["weight_zero"] += 1
        else:
            found.append(ranking)
    if left_out and not found:
        told = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise InvalidDataError(f"no ranking of {_named(files)} can be used ({told}); give one with others")
    if left_out:
        _log.warning("rankings left out", **left_out, kept=len(found))
    return _some(found, files, "rankings")


def _some(items: list[Item], files: Files, what: str) -> list[Item]:
    if not items:
        raise InvalidDataError(f"{_named(files)} holds no {what}; give a file with at least one record")
    return items


def _named(files: Files) -> str:
    return str(files) if isinstance(files, Path | str) else ", ".join(map(str, files))


def _content(record: Record, column: str) -> str | Chat:
    """Returns a column that is a non-empty text or conversation."""
    value = record.fields.get(column)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value:
        return as_chat(record, column, value)
    known = ", ".join(record.fields) or "none"
    record.refuse(
        f"'{column}' must be a text or a list of messages that is not empty; the columns here are: {known}"
    )


def _demonstrations(record: Record) -> list[Demonstration]:
    if "messages" in record.fields:
        chat = as_chat(record, "messages", record.fields["messages"])
        turns = [turn for turn, (role, _) in enumerate(chat) if role == "assistant" and turn > 0]
        if not turns:
            record.refuse("'messages' has no answer of the assistant after the first message; add one")
        names = [record.id if len(turns) == 1 else f"{record.id}#{turn}" for turn in turns]
        return [
            Demonstration(name, chat[:turn], chat[turn][1]) for name, turn in zip(names, turns, strict=True)
        ]
    if "completion" in record.fields:
        prompt = _content(record, "prompt")
        return [
            Demonstration(
                record.id, prompt, final_answer(record, "completion", _content(record, "completion"))
            )
        ]
    if "text" in record.fields:
        text = _content(record, "text")
        return [Demonstration(record.id, "", final_answer(record, "text", text))]
    known = ", ".join(record.fields) or "none"
    record.refuse(
        f"a demonstration has 'prompt' and 'completion', or 'text', or 'messages'; the columns here: {known}"
    )


def _judgement(record: Record, dialogues: Dialogues) -> Ranking | None:
    """Reads a ranking or a pair; None for two dialogues that are no answers to one prompt."""
    if "chosen" not in record.fields:
        return _ranking(record)
    if dialogues == "auto" and "prompt" not in record.fields:
        texts = (record.fields["chosen"], record.fields.get("rejected"))
        chats = [parse_dialogue(text) for text in texts if isinstance(text, str)]
        if len(chats) == 2 and chats[0] is not None and chats[1] is not None:
            found = last_answers(chats[0], chats[1])
            return None if found is None else _made(record, found[0], found[1:], (1, 2))
    return _pair(record)


def _made(record: Record, prompt: str | Chat, responses: Sequence[str], ranks: Sequence[int]) -> Ranking:
    """Returns a ranking with what its record says of its weight, task and rater."""
    weight = record.fields.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= 1:
        record.refuse(
            f"'weight' must be a number from 0 to 1, got {weight!r}; without one a ranking counts 1"
        )
    names = [record.fields.get(column, "") for column in ("task", "rater")]
    task, rater = (str(name) if isinstance(name, str | int) else "" for name in names)
    return Ranking(record.id, prompt, tuple(responses), tuple(ranks), float(weight), task, rater)


def _pair(record: Record) -> Ranking:
    """Reads ``chosen`` and ``rejected``; without ``prompt``, what both begin with is the prompt."""
    chosen, rejected = _content(record, "chosen"), _content(record, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        record.refuse("'chosen' and 'rejected' must both be texts or both be lists of messages")
    if "prompt" in record.fields:
        prompt: str | Chat = "" if record.fields["prompt"] == "" else _content(record, "prompt")
    elif isinstance(chosen, str) and isinstance(rejected, str):
        prompt = common_text(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    elif not isinstance(chosen, str) and not isinstance(rejected, str):
        prompt = common_chat(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not chosen or not rejected:
        record.refuse(
            "'chosen' and 'rejected' do not differ, or one is the beginning of the other; drop the record"
        )
    answers = (final_answer(record, "chosen", chosen), final_answer(record, "rejected", rejected))
    return _made(record, prompt, answers, (1, 2))


def _ranking(record: Record) -> Ranking:
    if not {"responses", "ranks"} <= record.fields.keys():
        known = ", ".join(record.fields) or "none"
        record.refuse(
            f"a ranking has 'responses' and 'ranks', or 'chosen' and 'rejected'; the columns here: {known}"
        )
    responses, ranks = record.fields["responses"], record.fields["ranks"]
    if not isinstance(responses, list) or len(responses) < 2 or not all(responses):
        record.refuse("'responses' must be a list of at least two answers, none of them empty")
    if not isinstance(ranks, list) or not all(
        isinstance(rank, int) and not isinstance(rank, bool) for rank in ranks
    ):
        record.refuse("'ranks' must be a list of whole numbers, 1 for the best; equal numbers are ties")
    if len(ranks) != len(responses):
        record.refuse(f"{len(responses)} responses, but {len(ranks)} ranks; give one rank to each response")
    prompt = "" if record.fields.get("prompt", "") == "" else _content(record, "prompt")
    answers = [as_chat(record, "responses", item) if isinstance(item, list) else item for item in responses]
    return _made(record, prompt, [final_answer(record, "responses", item) for item in answers], ranks)
