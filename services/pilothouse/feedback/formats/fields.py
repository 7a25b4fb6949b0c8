"""The fields of imported records, checked: texts, conversations, ranks, names, times."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pilothouse.feedback.formats.located import Limits, Located
from pilothouse.feedback.records import ROLES, PromptRecord, Source

MAX_MESSAGES = 1000
MAX_NAME_CHARACTERS = 200

_LATEST = 1e11
"""Seconds; what is above was written in milliseconds."""

Chat = tuple[tuple[str, str], ...]


def text_of(record: Located, name: str, value: Any, limits: Limits) -> str:
    """Returns a text that is not blank and can be stored.

    Raises:
        InvalidDataError: It is something else, or is too long.
    """
    if not isinstance(value, str) or not value.strip():
        record.refuse(f"'{name}' must be a text that is not empty, got {_shown(value)}")
    return _storable(record, name, value, limits)


def chat_of(record: Located, name: str, value: Any, limits: Limits) -> Chat:
    """Returns a conversation from a list of ``{"role", "content"}``.

    Raises:
        InvalidDataError: It is something else, or is too long.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        record.refuse(f"'{name}' must be a list of 1 to {MAX_MESSAGES} messages, got {_shown(value)}")
    chat = []
    for index, message in enumerate(value, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            record.refuse(f"message {index} of '{name}' must have 'role' and 'content', both texts")
        if message.get("role") not in ROLES:
            record.refuse(
                f"message {index} of '{name}' has role {_shown(message.get('role'))}; use {', '.join(ROLES)}"
            )
        chat.append((message["role"], _storable(record, name, message["content"], limits)))
    if sum(len(content) for _, content in chat) > limits.max_text_characters:
        record.refuse(f"'{name}' has more than {limits.max_text_characters} characters; shorten it")
    return tuple(chat)


def prompt_of(record: Located, name: str, value: Any, limits: Limits) -> PromptRecord:
    """Returns a prompt from a text or a conversation.

    Raises:
        InvalidDataError: It is neither.
    """
    if isinstance(value, list):
        return PromptRecord(messages=chat_of(record, name, value, limits))
    return PromptRecord(text=text_of(record, name, value, limits))


def answer_of(record: Located, name: str, value: Any, limits: Limits) -> str:
    """Returns an answer from a text or the one message of the assistant.

    Raises:
        InvalidDataError: It is neither.
    """
    if not isinstance(value, list):
        return text_of(record, name, value, limits)
    chat = chat_of(record, name, value, limits)
    if len(chat) != 1 or chat[0][0] != "assistant":
        record.refuse(f"'{name}' must be one message of the assistant; put what comes before into 'prompt'")
    return text_of(record, name, chat[0][1], limits)


def ranks_of(record: Located, name: str, value: Any, count: int) -> tuple[int, ...]:
    """Returns one whole number for each answer, the smallest the best.

    Raises:
        InvalidDataError: It is something else.
    """
    if not isinstance(value, list) or not all(
        isinstance(rank, int) and not isinstance(rank, bool) for rank in value
    ):
        record.refuse(f"'{name}' must be a list of whole numbers, 1 for the best; equal numbers are ties")
    if len(value) != count:
        record.refuse(f"{count} answers, but {len(value)} ranks in '{name}'; give one rank to each answer")
    return tuple(value)


def name_of(record: Located, name: str, value: Any) -> str:
    """Returns a person's name from a text or a number; empty for nothing.

    Raises:
        InvalidDataError: It is something else, or is too long.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > MAX_NAME_CHARACTERS:
        record.refuse(f"'{name}' must be a name of at most {MAX_NAME_CHARACTERS} characters")
    return _storable(record, name, str(value), None)


def time_of(record: Located, name: str, value: Any) -> float:
    """Returns seconds since 1970-01-01 UTC from a number or an ISO 8601 text; 0 for nothing.

    Raises:
        InvalidDataError: It is something else.
    """
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            record.refuse(f"'{name}' is no time; write it like 2026-05-01T12:00:00Z or in seconds since 1970")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        record.refuse(f"'{name}' must be a time in seconds since 1970-01-01 UTC, got {_shown(value)}")
    return float(value)


def sources_of(record: Located, name: str, value: Any, count: int) -> Sequence[Source]:
    """Returns who wrote each answer; unknown authors where there is nothing.

    Raises:
        InvalidDataError: It is no list of ``{"model", "run", "version", "temperature", "seed"}``.
    """
    if value is None:
        return [Source()] * count
    kinds = {"model": str, "run": str, "version": int, "temperature": float, "seed": int}
    if not isinstance(value, list) or len(value) != count:
        record.refuse(f"'{name}' must be a list with one entry for each of the {count} answers")
    for entry in value:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), kind) and not isinstance(entry[key], bool)
            for key, kind in kinds.items()
        ):
            record.refuse(f"every entry of '{name}' must have {', '.join(kinds)}, as an export writes them")
        for key in ("model", "run"):
            _storable(record, f"{name}.{key}", entry[key], None)
    return [Source(**{key: entry[key] for key in kinds}) for entry in value]


def _storable(record: Located, name: str, text: str, limits: Limits | None) -> str:
    """Refuses what no database takes: half a surrogate pair, the character 0, a text without end."""
    most = limits.max_text_characters if limits else MAX_NAME_CHARACTERS
    if len(text) > most:
        record.refuse(f"'{name}' has {len(text)} characters, the limit is {most}; shorten it")
    if "\0" in text or (not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text)):
        record.refuse(
            f"'{name}' holds a character that is no text (U+0000 or half a surrogate pair); remove it"
        )
    return text


def _shown(value: Any) -> str:
    """Returns a value, or what it is, in a few characters."""
    if value is None:
        return "nothing"
    return repr(value)[:40] if isinstance(value, str | int | float) else type(value).__name__
