"""What every scorer is: rows in, one float each out. Axes: B rows, T tokens of the longest row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from pilothouse.errors import ScoringFailedError
from pilothouse.models.reward_files import RewardManifest
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Floats, Tokens

EVERY_ID = 2**31
"""One above the largest id of int32."""

CHARACTERS_PER_TOKEN = 4
"""Rough figure by which the cost of a text is counted in the token budget."""

Reads = Literal["tokens", "text"]

Ids = npt.NDArray[np.int64]


def no_tokens() -> Tokens:
    """Returns an empty token sequence, int32 of shape [0]."""
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One response to score, in the form that its backend reads."""

    prompt: str = ""
    """Text of the prompt, for backends that read text."""
    response: str = ""
    """Text of the response, for backends that read text."""
    tokens: Tokens = field(default_factory=no_tokens)
    """Prompt and response as int32 of shape [tokens], for backends that read tokens."""
    deadline: float = inf
    """When its caller stops waiting, by ``time.monotonic``; for backends that call others."""

    @property
    def length(self) -> int:
        """Length in tokens, at least 1; for a text an estimate."""
        characters = len(self.prompt) + len(self.response)
        return max(1, len(self.tokens) or characters // CHARACTERS_PER_TOKEN)


class Backend(ABC):
    """Computes scores. It knows neither requests nor batches; ``score`` runs in one worker thread."""

    kind: ClassVar[str]
    """Its name in the configuration."""
    reads: Reads = "tokens"
    """Which half of a Row it uses."""
    version: str
    """Version of the reward model."""
    codec: TextCodec | None = None
    """The model's tokenizer; None where it needs none and was given none."""
    vocabulary_size: int = EVERY_ID
    """One above the largest token id it takes: the rows of its model's embedding, which may be padded to more
    than the tokenizer has, as the policy's is that draws the ids. Text has no limit: an id that the tokenizer
    does not know has no text, here as in the policy service."""
    providers: tuple[str, ...] = ()
    """ONNX Runtime execution providers in use, from the session itself."""
    max_sequence_tokens: int = 0
    """Longest sequence; 0 where there is no limit."""

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns one score a row, float32 of shape [B], which may hold NaN: the caller refuses it.

        Args:
            rows: At least one.

        Raises:
            PilothouseError: The scores could not be computed.
        """

    def close(self) -> None:  # noqa: B027 - most backends hold nothing that needs closing
        """Frees what it holds; it is not used again."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """The few lengths to which sequences are padded, so that few shapes occur."""

    lengths: tuple[int, ...]
    """Ascending."""

    def width(self, length: int) -> int:
        """Returns the padded length of a sequence: its bucket, above the last one a multiple of that."""
        last = self.lengths[-1]
        if length > last:
            return -(-length // last) * last
        return next(bucket for bucket in self.lengths if bucket >= length)


def pad(rows: Sequence[Row], buckets: Buckets, pad_id: int, longest: int) -> tuple[Ids, Ids]:
    """Returns token ids int64 [B, T], padded on the right to one bucket, and lengths int64 [B].

    Args:
        rows: Rows with tokens.
        buckets: Where T comes from.
        pad_id: Fills the rest; its value never matters to the scores.
        longest: The model's own limit, which T never passes.
    """
    lengths = np.array([len(row.tokens) for row in rows], dtype=np.int64)
    width = min(buckets.width(int(lengths.max())), longest)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row.tokens)] = row.tokens
    return ids, lengths


def normalise(raw: npt.ArrayLike, manifest: RewardManifest, rows: int) -> Floats:
    """Returns ``gain * raw + bias``, float32 of shape [rows].

    Raises:
        ScoringFailedError: The model's output does not have one number a row.
    """
    values = np.asarray(raw, dtype=np.float32)
    if values.size != rows:
        raise ScoringFailedError(
            f"the reward model answered {values.size} numbers for {rows} rows; export it anew"
        )
    scaled: Floats = np.float32(manifest.gain) * values.reshape(rows) + np.float32(manifest.bias)
    return scaled
