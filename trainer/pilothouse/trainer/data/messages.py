"""Conversations in data files, and the prompt that two texts have in common."""

from typing import Any

from pilothouse.trainer.data.files import Record

Chat = tuple[tuple[str, str], ...]
"""Messages as (role, content)."""

ROLES = ("system", "user", "assistant")
"""Who may speak."""


def as_chat(record: Record, column: str, messages: Any) -> Chat:
    """Returns a column's messages.

    Args:
        record: Where they stand.
        column: The column's name.
        messages: What it holds.

    Raises:
        InvalidDataError: It is no list of ``{"role", "content"}`` with known roles and texts.
    """
    if not isinstance(messages, list) or not messages:
        record.refuse(f"'{column}' must be a list of messages that is not empty")
    chat = []
    for index, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            record.refuse(f"message {index} of '{column}' must have 'role' and 'content', both texts")
        if message.get("role") not in ROLES:
            record.refuse(
                f"message {index} of '{column}' has role {message.get('role')!r}; use {', '.join(ROLES)}"
            )
        chat.append((message["role"], message["content"]))
    return tuple(chat)


def final_answer(record: Record, column: str, content: Any) -> str:
    """Returns the text of an answer: the text itself, or the one message of the assistant.

    Raises:
        InvalidDataError: It is empty, or a conversation of more than the assistant's one message.
    """
    if isinstance(content, str):
        if not content.strip():
            record.refuse(f"'{column}' is empty; drop the record or write the answer")
        return content
    if not isinstance(content, tuple) or len(content) != 1 or content[0][0] != "assistant":
        record.refuse(f"'{column}' must end the conversation with one message of the assistant")
    return final_answer(record, column, content[0][1])


def common_text(first: str, second: str) -> str:
    """Returns what two texts begin with, without a space that belongs to the answer (as TRL cuts)."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return first[: length - 1] if length and first[length - 1] == " " else first[:length]


def common_chat(first: Chat, second: Chat) -> Chat:
    """Returns the messages that two conversations begin with."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return first[:length]
