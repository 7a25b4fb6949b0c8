"""Rankings that come from elsewhere, under ids that follow from their content."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from pilothouse.feedback.formats.judged import dense
from pilothouse.feedback.formats.located import Located
from pilothouse.feedback.records import MAX_ANSWERS, MIN_ANSWERS, AnswerRecord, PromptRecord, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRanking:
    """One person's order of the answers of one task, or a task that nobody has ranked yet."""

    task: str
    """Digest of the prompt and the answers: the same task of two files is one."""
    prompt: PromptRecord
    answers: tuple[AnswerRecord, ...]
    """By their text: where a format puts the better answer first, its place must not tell."""
    ranks: tuple[int, ...]
    """By answer, 1 is best, equal ranks are ties, none is skipped; empty for a task without a ranking."""
    rater: str
    """Name that the file gives; empty for a task without a ranking."""
    submitted_at: float
    """Seconds since 1970-01-01 UTC; 0 where unknown."""

    @property
    def id(self) -> str:
        """Of the submission: the same person's ranking of the same task, imported again, has the same."""
        return blake3(json.dumps([self.task, self.rater]).encode()).hexdigest(length=16)


def imported(
    record: Located,
    *,
    prompt: PromptRecord,
    texts: Sequence[str],
    ranks: Sequence[int] = (),
    rater: str = "",
    submitted_at: float = 0.0,
    sources: Sequence[Source] | None = None,
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
    content = [prompt.text, prompt.messages, [answer.text for answer in answers]]
    return ImportedRanking(
        task=f"import-{blake3(json.dumps(content).encode()).hexdigest(length=16)}",
        prompt=prompt,
        answers=answers,
        ranks=dense([ranks[position] for position in order]) if ranks else (),
        rater=rater,
        submitted_at=submitted_at,
    )
