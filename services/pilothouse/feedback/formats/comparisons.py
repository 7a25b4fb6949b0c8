"""Imported tables: rankings as an export writes them, TRL's preferences with explicit or implicit prompt."""

from collections.abc import Iterator
from typing import Any

from pilothouse.feedback.formats.fields import (
    Chat,
    answer_of,
    chat_of,
    name_of,
    prompt_of,
    ranks_of,
    sources_of,
    text_of,
    time_of,
)
from pilothouse.feedback.formats.imported import ImportedRanking, imported
from pilothouse.feedback.formats.located import Limits, Located
from pilothouse.feedback.records import MAX_ANSWERS, PromptRecord

RANKING_COLUMNS = ("id", "prompt", "responses", "ranks", "rater", "submitted_at", "sources")
"""What is read of a ranking; other columns are passed over."""
PREFERENCE_COLUMNS = ("prompt", "chosen", "rejected", "rater", "submitted_at")
"""What is read of a preference."""


def read_ranking(record: Located, limits: Limits) -> Iterator[ImportedRanking]:
    """Yields the ranking of a row with ``prompt``, ``responses`` and ``ranks``.

    Raises:
        InvalidDataError: The row is something else.
    """
    _need(record, "a ranking", "prompt", "responses", "ranks")
    responses = record.fields["responses"]
    if not isinstance(responses, list) or len(responses) > MAX_ANSWERS:
        record.refuse(f"'responses' must be a list of at most {MAX_ANSWERS} answers")
    yield imported(
        record,
        prompt=prompt_of(record, "prompt", record.fields["prompt"], limits),
        texts=[answer_of(record, "responses", response, limits) for response in responses],
        ranks=ranks_of(record, "ranks", record.fields["ranks"], len(responses)),
        sources=sources_of(record, "sources", record.fields.get("sources"), len(responses)),
        id=record.fields.get("id"),
        **_who(record),
    )


def read_preference(record: Located, limits: Limits) -> Iterator[ImportedRanking]:
    """Yields the ranking of two that a row with ``prompt``, ``chosen`` and ``rejected`` stands for.

    Raises:
        InvalidDataError: The row is something else.
    """
    if "prompt" not in record.fields and {"chosen", "rejected"} <= record.fields.keys():
        record.refuse("there is no 'prompt'; import it as preference with implicit prompt")
    _need(record, "a preference", "prompt", "chosen", "rejected")
    yield imported(
        record,
        prompt=prompt_of(record, "prompt", record.fields["prompt"], limits),
        texts=[answer_of(record, name, record.fields[name], limits) for name in ("chosen", "rejected")],
        ranks=(1, 2),
        **_who(record),
    )


def read_implicit(record: Located, limits: Limits) -> Iterator[ImportedRanking]:
    """Yields the ranking of two that a row with only ``chosen`` and ``rejected`` stands for.

    The prompt is what both begin with: the messages they share, or the text. Texts are cut where they begin
    to differ, as TRL does, so that answers that begin alike lose what they share to the prompt.

    Raises:
        InvalidDataError: The row is something else, or the two have no beginning in common.
    """
    _need(record, "a preference", "chosen", "rejected")
    chosen, rejected = record.fields["chosen"], record.fields["rejected"]
    if isinstance(chosen, list) != isinstance(rejected, list):
        record.refuse("'chosen' and 'rejected' must both be texts or both be lists of messages")
    split = _split_chats if isinstance(chosen, list) else _split_texts
    prompt, texts = split(record, chosen, rejected, limits)
    yield imported(record, prompt=prompt, texts=texts, ranks=(1, 2), **_who(record))


def _split_chats(
    record: Located, chosen: Any, rejected: Any, limits: Limits
) -> tuple[PromptRecord, tuple[str, str]]:
    one: Chat = chat_of(record, "chosen", chosen, limits)
    other: Chat = chat_of(record, "rejected", rejected, limits)
    shared = _shared(one, other)
    if not shared:
        record.refuse("'chosen' and 'rejected' begin with different messages, so that there is no prompt")
    rests = [chosen[shared:], rejected[shared:]]
    if not all(rests):
        record.refuse("'chosen' and 'rejected' do not differ, or one is the beginning of the other; drop it")
    first, second = (
        answer_of(record, name, rest, limits)
        for name, rest in zip(("chosen", "rejected"), rests, strict=True)
    )
    return PromptRecord(messages=one[:shared]), (first, second)


def _split_texts(
    record: Located, chosen: Any, rejected: Any, limits: Limits
) -> tuple[PromptRecord, tuple[str, str]]:
    one = text_of(record, "chosen", chosen, limits)
    other = text_of(record, "rejected", rejected, limits)
    shared = _shared(one, other)
    if shared and one[shared - 1] == " ":  # a space belongs to the answer
        shared -= 1
    if not one[:shared].strip():
        record.refuse("'chosen' and 'rejected' begin differently, so that there is no prompt; add 'prompt'")
    if not one[shared:].strip() or not other[shared:].strip():
        record.refuse("'chosen' and 'rejected' do not differ, or one is the beginning of the other; drop it")
    return PromptRecord(text=one[:shared]), (one[shared:], other[shared:])


def _shared(one: str | Chat, other: str | Chat) -> int:
    """Returns how many characters or messages two begin with in common."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _need(record: Located, what: str, *names: str) -> None:
    missing = [name for name in names if name not in record.fields]
    if missing:
        known = ", ".join(record.fields) or "none"
        record.refuse(
            f"{what} has {', '.join(names)}; {missing[0]} is missing. The columns here: {known[:200]}"
        )


def _who(record: Located) -> dict[str, Any]:
    return {
        "rater": name_of(record, "rater", record.fields.get("rater")),
        "submitted_at": time_of(record, "submitted_at", record.fields.get("submitted_at")),
    }
