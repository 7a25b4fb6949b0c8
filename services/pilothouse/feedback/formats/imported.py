"""Rankings that come from elsewhere, and what two of them must share to be of the same task."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from pilothouse.feedback.formats.judged import dense
from pilothouse.feedback.formats.located import Located
from pilothouse.feedback.formats.split import messages_of
from pilothouse.feedback.records import MAX_ANSWERS, MIN_ANSWERS, AnswerRecord, PromptRecord, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRanking:
    """One person's order of the answers of one task, or a task that nobody has ranked yet."""

    content: str
    """`content_digest` of the prompt and the answers: the same task of two files is one."""
    prompt: PromptRecord
    answers: tuple[AnswerRecord, ...]
    """By their text: where a format puts the better answer first, its place must not tell."""
    ranks: tuple[int, ...]
    """By answer, 1 is best, equal ranks are ties, none is skipped; empty for a task without a ranking."""
    rater: str
    """Name or pseudonym that the file gives; empty where it gives none."""
    submitted_at: float
    """Seconds since 1970-01-01 UTC; 0 where unknown."""
    record: str = ""
    """Id that an export gave to the ranking; empty where the file has none."""
    place: str = field(default="", compare=False)
    """Where it stands in the file, for messages."""


def content_digest(prompt: PromptRecord, texts: Iterable[str]) -> str:
    """Returns what stands for a prompt and its answers, whatever their order.

    A text is the same prompt as that text as the user's one message: an export may write either.
    """
    return blake3(json.dumps([messages_of(prompt), sorted(texts)]).encode()).hexdigest(length=16)


def imported(
    record: Located,
    *,
    prompt: PromptRecord,
    texts: Sequence[str],
    ranks: Sequence[int] = (),
    rater: str = "",
    submitted_at: float = 0.0,
    sources: Sequence[Source] | None = None,
    id: object = None,
) -> ImportedRanking:
    """Returns a ranking whose fields were checked one by one, after checking that they go together.

    Raises:
        InvalidDataError: There are too few or too many answers, or two are the same.
    """
    if not MIN_ANSWERS <= len(texts) <= MAX_ANSWERS:
        record.refuse(f"{len(texts)} answers; a ranking has {MIN_ANSWERS} to {MAX_ANSWERS}")
    if len(set(texts)) < len(texts):
        record.refuse("two answers have the same text; drop one of them")
    order = sorted(range(len(texts)), key=lambda position: texts[position])
    answers = tuple(
        AnswerRecord(text=texts[position], source=sources[position] if sources else Source())
        for position in order
    )
    return ImportedRanking(
        content=content_digest(prompt, texts),
        prompt=prompt,
        answers=answers,
        ranks=dense([ranks[position] for position in order]) if ranks else (),
        rater=rater,
        submitted_at=submitted_at,
        # What no id of ours can be is none: databases refuse some of it.
        record=id if isinstance(id, str) and id.isprintable() else "",
        place=record.place,
    )
