"""Reads the rows of a JSON Lines file, or of stdin, for the commands that work on many."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilothouse.client.policy_codec import chat_message
from pilothouse.client.types import Chat
from pilothouse.errors import InvalidDataError, InvalidRequestError


def read_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every row with its place, for messages. The file ``-`` is stdin.

    Raises:
        InvalidDataError: The file cannot be read, or a line is not a JSON object.
    """
    name = "stdin" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"cannot read {name}: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):  # strings may hold other line breaks
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidDataError(f"{place}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise InvalidDataError(f"{place}: not an object; write one object a line")
        yield place, row


def text_of(row: dict[str, Any], place: str, *names: str) -> str:
    """Returns the first of the named columns that the row has.

    Raises:
        InvalidDataError: It has none, or no text there.
    """
    for name in names:
        if name in row:
            if not isinstance(row[name], str):
                raise InvalidDataError(f"{place}: '{name}' must be text")
            return str(row[name])
    raise InvalidDataError(f"{place}: no column '{names[0]}'; it has {', '.join(sorted(row)) or 'none'}")


def prompt_of(row: dict[str, Any], place: str) -> str | Chat:
    """Returns the column ``prompt``: a text, or chat messages.

    Raises:
        InvalidDataError: It is missing or is neither.
    """
    value = row.get("prompt")
    if not isinstance(value, list):
        return text_of(row, place, "prompt")
    try:
        found = [chat_message(message) for message in value]
    except (InvalidRequestError, TypeError, ValueError) as error:
        raise InvalidDataError(
            f"{place}: 'prompt' must be a text, or messages with 'role' and 'content' ({error})"
        ) from None
    return [(message.role, message.content) for message in found]
