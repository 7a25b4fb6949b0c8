"""Whole sequences of the Logprobs calls, as token ids or as text, to and from messages."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.client.types import TokenisedTexts, TokenRow
from pilothouse.errors import InvalidRequestError, ProtocolError
from pilothouse.sequences import Request, Spans
from pilothouse.tensors import Floats, Tokens
from pilothouse.v1 import policy_pb2, reference_pb2, tensor_pb2

Response = policy_pb2.LogprobsResponse | reference_pb2.ReferenceServiceLogprobsResponse


def fill(
    request: Request,
    sequences: Sequence[TokenRow] | None,
    prompt_lengths: npt.ArrayLike | None,
    prompts: Sequence[str] | None,
    responses: Sequence[str] | None,
    unfinished: bool,
) -> None:
    """Puts sequences into a request, of one kind or the other.

    Raises:
        InvalidRequestError: Neither or both kinds were given, or not one response for each prompt.
    """
    if sequences is None and prompt_lengths is None and prompts is not None and responses is not None:
        if isinstance(prompts, str) or isinstance(responses, str) or len(prompts) != len(responses):
            raise InvalidRequestError("prompts and responses must be two lists of equal length")
        request.texts.CopyFrom(
            tensor_pb2.TextSequences(prompts=prompts, responses=responses, unfinished=unfinished)
        )
    elif prompts is None and responses is None and sequences is not None and prompt_lengths is not None:
        if unfinished:
            raise InvalidRequestError("unfinished is for texts; token ids are taken as they are")
        request.sequences.CopyFrom(tensors.encode_sequences(sequences))
        request.prompt_lengths.CopyFrom(tensors.encode(prompt_lengths, np.int32))
    else:
        raise InvalidRequestError("give either sequences and prompt_lengths, or prompts and responses")


def tokenised(request: Request, response: Response, rows: Sequence[Floats]) -> TokenisedTexts | None:
    """Returns what the request's texts became, or None where it had token ids.

    Args:
        request: What was asked.
        response: The answer.
        rows: Its log-probs.

    Raises:
        ProtocolError: The answer does not say, or says what does not fit its log-probs.
    """
    asked = len(request.texts.prompts)
    if not asked:
        return None
    found = _decode(response.tokenised)
    counts = [len(row) - length for row, length in zip(found.sequences, found.prompt_lengths, strict=True)]
    if len(counts) != asked or counts != [len(row) for row in rows]:
        raise ProtocolError("the service sent log-probs that do not fit the tokens it made of the texts")
    return found


def _decode(message: tensor_pb2.TokenisedTexts) -> TokenisedTexts:
    if not message.HasField("sequences"):
        raise ProtocolError("the service did not say what it made of the texts; upgrade it")
    flat = tensors.decode(message.sequences.tokens, name="tokens", dtype=np.int32, ndim=1)
    lengths = tensors.decode(message.sequences.lengths, name="lengths", dtype=np.int32, ndim=1)
    prompts = tensors.decode(message.prompt_lengths, name="prompt_lengths", dtype=np.int32, ndim=1)
    spans = tensors.decode(message.spans, name="spans", dtype=np.int32, ndim=2)
    if prompts.shape != lengths.shape or spans.shape[1] != 2:
        raise ProtocolError("the service made of the texts what no tokenizer makes; upgrade it")
    counts = lengths.astype(np.int32) - prompts.astype(np.int32)
    return TokenisedTexts(
        cast(list[Tokens], tensors.split(flat, lengths, name="sequences")),
        prompts.tolist(),
        cast(list[Spans], tensors.split(spans, counts, name="spans")),
    )
