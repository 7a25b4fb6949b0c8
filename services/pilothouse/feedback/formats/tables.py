"""Rows of the formats that are tables. A row has the columns of `columns`, in their order, and no nulls.

Prompts and answers are texts or, in a conversational data set, messages: a text prompt is then what the user
says, an answer the assistant's one message. An implicit prompt is put before the answer as it stands, without
a sign between, which is how TRL joins an explicit one.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pilothouse.feedback.formats.judged import Judged, labels, pairs
from pilothouse.feedback.formats.split import messages_of
from pilothouse.feedback.records import AnswerRecord, DemonstrationRecord, PromptRecord

Row = dict[str, Any]
Messages = list[dict[str, str]]


def asked(prompt: PromptRecord, conversational: bool) -> str | Messages:
    """Returns a prompt as it stands in a row."""
    if not conversational:
        return prompt.text
    return [{"role": role, "content": content} for role, content in messages_of(prompt)]


def said(text: str, conversational: bool) -> str | Messages:
    """Returns an answer as it stands in a row."""
    return [{"role": "assistant", "content": text}] if conversational else text


def ranking_rows(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one row for each ranking."""
    for item in items:
        record = item.record
        yield {
            "id": record.id,
            "kind": item.kind,
            "task": record.task,
            "queue": record.queue,
            "prompt": asked(record.prompt, conversational),
            "responses": [said(answer.text, conversational) for answer in record.answers],
            "ranks": list(item.ranks),
            "rater": record.rater,
            "weight": float(record.weight),
            "submitted_at": float(record.submitted_at),
            "order": list(record.order),
            "unsafe": list(record.unsafe),
            "vetoed": [position for position, answer in enumerate(record.answers) if answer.vetoed],
            "flagged": [position for position, answer in enumerate(record.answers) if answer.flagged],
            "answer_ids": [answer.id for answer in record.answers],
            "sources": [source(answer) for answer in record.answers],
            "seconds": float(record.seconds),
            "comment": record.comment,
            "prompt_source": record.prompt.source,
            "prompt_flagged": record.prompt.flagged,
        }


def source(answer: AnswerRecord) -> Row:
    """Returns who wrote an answer."""
    who = answer.source
    return {
        "model": who.model,
        "run": who.run,
        "version": who.version,
        "temperature": float(who.temperature),
        "seed": who.seed,
    }


def preference_rows(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one row for each pair that is not tied."""
    for item in items:
        prompt = asked(item.record.prompt, conversational)
        for chosen, rejected in pairs(item):
            yield {
                "prompt": prompt,
                "chosen": said(chosen, conversational),
                "rejected": said(rejected, conversational),
            }


def implicit_rows(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one row for each pair that is not tied, the prompt inside both answers."""
    for item in items:
        prompt: Any = asked(item.record.prompt, conversational)
        for chosen, rejected in pairs(item):
            yield {
                "chosen": prompt + said(chosen, conversational),
                "rejected": prompt + said(rejected, conversational),
            }


def unpaired_rows(items: Iterable[Judged], conversational: bool) -> Iterator[Row]:
    """Yields one row for each answer that is good or bad."""
    for item in items:
        prompt = asked(item.record.prompt, conversational)
        for text, good in labels(item):
            yield {"prompt": prompt, "completion": said(text, conversational), "label": good}


def demonstration_rows(records: Iterable[DemonstrationRecord], conversational: bool) -> Iterator[Row]:
    """Yields one row for each answer that a person wrote or mended."""
    for record in records:
        yield {
            "id": record.id,
            "kind": "demonstration" if record.corrects is None else "correction",
            "task": record.task,
            "queue": record.queue,
            "prompt": asked(record.prompt, conversational),
            "completion": said(record.text, conversational),
            "rater": record.rater,
            "weight": float(record.weight),
            "submitted_at": float(record.submitted_at),
        }
