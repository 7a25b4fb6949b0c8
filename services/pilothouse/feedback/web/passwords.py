"""Passwords: argon2id, off the event loop, a bounded number at a time."""

import asyncio
import secrets
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from pilothouse.errors import InvalidRequestError, QueueFullError

MIN_CHARACTERS = 10
"""The only rule: length is what makes a password hard to guess."""
_MAX_CHARACTERS = 1_024
_AT_ONCE = 2
_MAX_WAITING = 64


class Passwords:
    """Hashes and checks passwords. Each takes 64 MiB for some ten milliseconds, so that two run at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()  # RFC 9106, second recommendation: 3 passes, 64 MiB, 4 lanes
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._nobodys = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """Returns what is stored of a password.

        Raises:
            InvalidRequestError: It is too short or too long.
            QueueFullError: Too many wait.
        """
        if len(password) < MIN_CHARACTERS:
            raise InvalidRequestError(
                f"The password has {len(password)} characters; choose one of at least {MIN_CHARACTERS}."
            )
        if len(password) > _MAX_CHARACTERS:
            raise InvalidRequestError(f"The password is longer than {_MAX_CHARACTERS} characters.")
        async with self._place():
            return await asyncio.to_thread(self._hasher.hash, _bytes(password))

    async def matches(self, password: str, stored: str | None) -> bool:
        """Returns whether a password is the stored one; takes as long where none is stored.

        Raises:
            QueueFullError: Too many wait.
        """
        async with self._place():
            right = await asyncio.to_thread(self._verify, password[:_MAX_CHARACTERS], stored or self._nobodys)
        return right and stored is not None

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._waiting >= _MAX_WAITING:
            raise QueueFullError("many people are logging in; try again in a moment")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _verify(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, _bytes(password))
        except VerifyMismatchError:
            return False


def _bytes(password: str) -> bytes:
    # The same letters may be typed as one character or as several.
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
