"""Prompt and response as one sequence, on the wire as ids or as text: what both Logprobs calls share."""

from collections.abc import Sequence
from typing import Literal

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


def encode_tokenised(
    sequences: Sequence[Tokens], prompt_lengths: Sequence[int], spans: Sequence[Spans]
) -> tensor_pb2.TokenisedTexts:
    """Returns what texts became; at least one row."""
    return tensor_pb2.TokenisedTexts(
        sequences=tensors.encode_sequences(sequences),
        prompt_lengths=tensors.encode(prompt_lengths, np.int32),
        spans=tensors.encode(np.concatenate(spans), np.int32),
    )
