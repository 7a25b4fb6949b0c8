"""Prompt and response as one sequence, on the wire as ids or as text: what both Logprobs calls share."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.errors import InvalidRequestError
from pilothouse.tensors import Tokens
from pilothouse.v1 import policy_pb2, reference_pb2, tensor_pb2

Spans = npt.NDArray[np.int32]
"""[R, 2]: for every token of a response the half-open range of its characters."""
Request = policy_pb2.LogprobsRequest | reference_pb2.ReferenceServiceLogprobsRequest
"""What carries sequences in the fields `sequences` and `prompt_lengths`, or `texts`."""


def kind_of(request: Request) -> Literal["tokens", "texts"]:
    """Returns how a request gives its sequences.

    Raises:
        InvalidRequestError: In both ways, in none, or as token ids without their prompt lengths.
    """
    tokens = [request.HasField("sequences"), request.HasField("prompt_lengths")]
    if request.HasField("texts") and not any(tokens):
        return "texts"
    if all(tokens) and not request.HasField("texts"):
        return "tokens"
    raise InvalidRequestError("set either sequences and prompt_lengths, or texts, and not parts of both")


class JoinedRow(Protocol):
    """One row of texts, as a tokenizer makes it."""

    @property
    def tokens(self) -> Tokens:
        """Prompt and response, int32 [P + R]."""

    @property
    def prompt_length(self) -> int:
        """P."""

    @property
    def spans(self) -> Spans:
        """Of the response."""


def encode_tokenised(rows: Sequence[JoinedRow]) -> tensor_pb2.TokenisedTexts | None:
    """Returns what texts became; None without rows, where token ids were sent."""
    if not rows:
        return None
    return tensor_pb2.TokenisedTexts(
        sequences=tensors.encode_sequences([row.tokens for row in rows]),
        prompt_lengths=tensors.encode([row.prompt_length for row in rows], np.int32),
        spans=tensors.encode(np.concatenate([row.spans for row in rows]), np.int32),
    )
