"""The columns of every format, in their order: one declaration for schemas, manifests and cards."""

from dataclasses import dataclass
from typing import Literal

from pilothouse.feedback.formats.options import Format

Kind = Literal["text", "number", "yes or no", "texts", "integers", "messages", "conversations", "sources"]
"""What a column holds; the plural is a list."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    meaning: str


def columns(format: Format, *, conversational: bool) -> tuple[Column, ...]:
    """Returns the columns of a table; none for a format that is a JSON array of its own.

    Args:
        format: Shape of the records.
        conversational: Whether prompts and answers are messages.
    """
    content: Kind = "messages" if conversational else "text"
    prompt = Column("prompt", content, "What was asked.")
    match format:
        case Format.RANKING:
            answers: Kind = "conversations" if conversational else "texts"
            return (*_ABOUT, prompt, Column("responses", answers, "The K answers."), *_JUDGEMENT)
        case Format.PREFERENCE:
            return (prompt, *_pair(content))
        case Format.PREFERENCE_IMPLICIT:
            return _pair(content, " The prompt comes first.")
        case Format.UNPAIRED:
            return (prompt, Column("completion", content, "An answer."), _LABEL)
        case Format.DEMONSTRATION:
            return (*_ABOUT, prompt, Column("completion", content, "What the person wrote."), *_RATER)
        case _:
            return ()


def _pair(content: Kind, more: str = "") -> tuple[Column, Column]:
    return (
        Column("chosen", content, f"The answer that the person preferred.{more}"),
        Column("rejected", content, f"The other answer.{more}"),
    )


_ABOUT = (
    Column("id", "text", "Of the submission; unique."),
    Column("kind", "text", "`ranking`, `demonstration`, or `correction`: a person mended an answer."),
    Column("task", "text", "Rankings of the same task are of the same answers."),
    Column("queue", "text", "Where the task was handed out."),
)
_RATER = (
    Column("rater", "text", "Pseudonym of the person."),
    Column("weight", "number", "How much this person's judgements count in training, 0 to 1."),
    Column("submitted_at", "number", "Seconds since 1970-01-01 UTC; 0 where unknown."),
)
_LABEL = Column(
    "label",
    "yes or no",
    "Whether the answer is good: the best of a ranking are, the worst and vetoed ones are not.",
)
_JUDGEMENT = (
    Column("ranks", "integers", "Of every answer, 1 is best, equal ranks are ties; vetoed answers are last."),
    *_RATER,
    Column(
        "order", "integers", "Positions of the answers, from 0, as the person saw them; empty where unknown."
    ),
    Column("unsafe", "integers", "Positions of the answers that the person called unsafe."),
    Column("vetoed", "integers", "Positions of the answers that an admin vetoed."),
    Column("flagged", "integers", "Positions of the answers that an admin flagged."),
    Column("answer_ids", "texts", "Ids of the answers, for vetoes and flags; empty for a correction's text."),
    Column("sources", "sources", "Who wrote each answer: model, run, version, temperature, seed."),
    Column("seconds", "number", "How long the person took; 0 where unknown."),
    Column("comment", "text", "The person's remark."),
    Column("prompt_source", "text", "Where the prompt comes from."),
    Column("prompt_flagged", "yes or no", "Whether an admin flagged the prompt."),
)
