"""Finds stop strings while tokens arrive, without decoding a completion again for every token."""

from collections.abc import Callable, Sequence
from typing import Protocol

TokenStop = Callable[[int], bool]
"""Takes the next token of one completion; True ends the completion with it."""

_LONGEST_WINDOW = 32
"""Tokens after which a character that is not finished never will be."""


class Decoder(Protocol):
    """Turns tokens into text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of the tokens without special tokens."""


class StopStrings:
    """Watches one completion for stop strings.

    Text is decoded from a short window that starts before the newest finished piece, because a token may hold
    half a character and its text may depend on the token before it.
    """

    def __init__(self, codec: Decoder, stops: Sequence[str]) -> None:
        self._codec = codec
        self._stops = tuple(stops)
        self._keep = max(len(stop) for stop in self._stops) - 1
        self._tail = ""
        self._window: list[int] = []
        self._known = 0

    def __call__(self, token: int) -> bool:
        """Takes the next token; True if a stop string is now complete."""
        self._window.append(token)
        before = self._codec.decode(self._window[: self._known])
        text = self._codec.decode(self._window)
        unfinished = len(text) <= len(before) or text.endswith("\ufffd")
        if unfinished and len(self._window) < _LONGEST_WINDOW:
            return False
        self._tail += text[len(before) :]
        found = any(stop in self._tail for stop in self._stops)
        self._tail = self._tail[-self._keep :] if self._keep else ""
        self._window = self._window[self._known :]
        self._known = len(self._window)
        return found


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """Returns the text before the earliest stop string, or all of it."""
    ends = [index for index in (text.find(stop) for stop in stops) if index >= 0]
    return text[: min(ends)] if ends else text
