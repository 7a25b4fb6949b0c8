"""Finds stop strings while tokens arrive, without decoding a completion again for every token."""

from collections.abc import Callable, Sequence
from typing import Protocol

TokenStop = Callable[[int], int]
"""Takes the next token of one completion. Above 0 where it ends the completion: characters at the end of the
text, from the stop string on, that do not belong to the answer."""

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

    def __call__(self, token: int) -> int:
        """Takes the next token; returns the characters from a stop string that is now complete to the end."""
        self._window.append(token)
        before = self._codec.decode(self._window[: self._known])
        text = self._codec.decode(self._window)
        unfinished = len(text) <= len(before) or text.endswith("\ufffd")
        if unfinished and len(self._window) < _LONGEST_WINDOW:
            return 0
        seen = len(self._tail)
        self._tail += text[len(before) :]
        found = self._match(seen)
        self._tail = self._tail[-self._keep :] if self._keep else ""
        self._window = self._window[self._known :]
        self._known = len(self._window)
        return found

    def _match(self, seen: int) -> int:
        """Returns the length of the tail from the first match on that ends beyond ``seen``; 0 without one.

        What was complete before may have been too early to end the completion, and must not end it later.
        """
        starts = [self._tail.find(stop, max(0, seen - len(stop) + 1)) for stop in self._stops]
        found = [start for start in starts if start >= 0]
        return len(self._tail) - min(found) if found else 0
