"""Requests and answers of the policy service, to and from messages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.client.base import sendable
from pilothouse.client.sequences_codec import fill, tokenised
from pilothouse.client.types import (
    Chat,
    Completion,
    FinishReason,
    Message,
    PolicyLogprobs,
    PolicyModel,
    Prompts,
    SamplingParams,
    TokenEvent,
    TokenRow,
    VersionSpan,
)
from pilothouse.errors import InvalidRequestError, ProtocolError
from pilothouse.tensors import Floats, Tokens
from pilothouse.v1 import policy_pb2, tensor_pb2

_FINISH_REASONS: dict[int, FinishReason] = {
    policy_pb2.FINISH_REASON_STOP_TOKEN: "stop_token",
    policy_pb2.FINISH_REASON_STOP_STRING: "stop_string",
    policy_pb2.FINISH_REASON_LENGTH: "length",
}


@sendable()
def generate_request(
    prompts: Prompts,
    sampling: SamplingParams | None,
    *,
    n: int,
    seeds: Sequence[int] | None,
    stream_tokens: bool,
) -> policy_pb2.GenerateRequest:
    """Returns the message; see ``PolicyClient.generate``.

    Raises:
        InvalidRequestError: The prompts are of no known kind, there is not one seed for each, or a value does
            not fit into the message.
    """
    request = policy_pb2.GenerateRequest(sampling=_sampling(sampling), n=n, stream_tokens=stream_tokens)
    _set_prompts(request, prompts)
    if seeds is not None:
        if len(seeds) != len(prompts):
            raise InvalidRequestError(f"{len(seeds)} seeds for {len(prompts)} prompts; give one for each")
        request.seeds.CopyFrom(tensors.encode(seeds, np.int64))
    return request


def events(response: policy_pb2.GenerateResponse) -> Iterator[Completion | TokenEvent]:
    """Yields what one message of the stream tells.

    Raises:
        ProtocolError: It tells what the contract does not know.
    """
    kind = response.WhichOneof("event")
    if kind == "completion":
        yield _completion(response.completion)
    elif kind == "chunk":
        yield from _token_events(response.chunk)
    else:
        raise ProtocolError("the policy sent an event that this client does not know; upgrade the client")


def in_order(found: Iterable[Completion], prompts: int, n: int) -> list[Completion]:
    """Returns the completions by prompt, then by sample.

    Raises:
        ProtocolError: One is missing or came twice.
    """
    completions = sorted(found, key=lambda item: (item.prompt_index, item.sample_index))
    places = [(item.prompt_index, item.sample_index) for item in completions]
    if places != [(prompt, sample) for prompt in range(prompts) for sample in range(n)]:
        raise ProtocolError(
            f"the policy answered with {len(places)} completions, {len(set(places))} of them distinct, "
            f"instead of {n} for each of {prompts} prompts"
        )
    return completions


@sendable()
def logprobs_request(
    sequences: Sequence[TokenRow] | None,
    prompt_lengths: npt.ArrayLike | None,
    temperature: float,
    prompts: Sequence[str] | None,
    responses: Sequence[str] | None,
    unfinished: bool,
) -> policy_pb2.LogprobsRequest:
    """Returns the message; see ``PolicyClient.logprobs``."""
    request = policy_pb2.LogprobsRequest(temperature=temperature)
    fill(request, sequences, prompt_lengths, prompts, responses, unfinished)
    return request


def logprobs(request: policy_pb2.LogprobsRequest, response: policy_pb2.LogprobsResponse) -> PolicyLogprobs:
    """Returns the answer's rows."""
    found = rows(response.logprobs, response.lengths)
    return PolicyLogprobs(found, response.epoch, response.version, tokenised(request, response, found))


def model(response: policy_pb2.GetModelResponse) -> PolicyModel:
    """Returns the answer."""
    return PolicyModel(
        model=response.model,
        architecture=response.architecture,
        epoch=response.epoch,
        version=response.version,
        digest=response.digest,
        vocabulary_size=response.vocabulary_size,
        max_sequence_tokens=response.max_sequence_tokens,
        max_running=response.max_running,
        max_waiting=response.max_waiting,
        eos_token_ids=tuple(response.eos_token_ids),
        tokenizer_digest=response.tokenizer_digest,
    )


def rows(values: tensor_pb2.Tensor, lengths: tensor_pb2.Tensor) -> list[Floats]:
    """Returns ragged float32 rows that came end to end.

    Raises:
        InvalidTensorError: They do not add up.
    """
    flat = floats(values, name="values")
    counts = tensors.decode(lengths, name="lengths", dtype=np.int32, ndim=1)
    return cast(list[Floats], tensors.split(flat, counts, name="values"))


def floats(tensor: tensor_pb2.Tensor, *, name: str) -> Floats:
    """Returns a finite float32 vector."""
    return cast(Floats, tensors.decode(tensor, name=name, dtype=np.float32, ndim=1))


def _sampling(sampling: SamplingParams | None) -> policy_pb2.SamplingParams:
    params = sampling or SamplingParams()
    if isinstance(params.stop_strings, str):
        raise InvalidRequestError("stop_strings must be a list of texts, not one text; put it into a list")
    return policy_pb2.SamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_new_tokens=params.min_new_tokens,
        max_new_tokens=params.max_new_tokens,
        stop_token_ids=params.stop_token_ids,
        stop_strings=params.stop_strings,
        ignore_eos=params.ignore_eos,
    )


def _set_prompts(request: policy_pb2.GenerateRequest, prompts: Prompts) -> None:
    if isinstance(prompts, str) or len(prompts) == 0:
        raise InvalidRequestError("prompts must be a list of at least one prompt")
    rows: Sequence[Any] = prompts
    for row in rows:
        _check_kind(row)
    if all(isinstance(row, str) for row in rows):
        request.texts.texts.extend(rows)
    elif all(_is_chat(row) for row in rows):
        request.chats.chats.extend(_chat(row) for row in rows)
    elif any(isinstance(row, str) or _is_chat(row) for row in rows):
        raise InvalidRequestError("prompts must all be texts, all token ids or all conversations")
    else:
        request.tokens.CopyFrom(tensors.encode_sequences(rows))


def _check_kind(row: Any) -> None:
    """Refuses what stands where a prompt should: an id or a message of a prompt that is in no list."""
    if isinstance(row, str):
        return
    is_row = isinstance(row, Sequence) or (isinstance(row, np.ndarray) and row.ndim > 0)
    if not is_row or (len(row) > 0 and isinstance(row[0], str)):
        raise InvalidRequestError(
            f"a prompt must be a text, a row of token ids or a conversation, got {row!r:.60}; "
            "put a single prompt into a list"
        )


def _is_chat(row: Any) -> bool:
    return not isinstance(row, np.ndarray) and len(row) > 0 and isinstance(row[0], tuple | Mapping)


def _chat(chat: Chat) -> tensor_pb2.Chat:
    return tensor_pb2.Chat(messages=[chat_message(message) for message in chat])


def chat_message(message: Message) -> tensor_pb2.ChatMessage:
    """Returns one turn of a conversation as its message."""
    if isinstance(message, Mapping):
        if set(message) != {"role", "content"}:
            raise InvalidRequestError(f"a message needs the keys role and content, got {sorted(message)}")
        role, content = message["role"], message["content"]
    else:
        role, content = message
    if not isinstance(role, str) or not isinstance(content, str):
        raise InvalidRequestError(f"role and content of a message must be texts, got {message!r:.60}")
    return tensor_pb2.ChatMessage(role=role, content=content)


def _completion(message: policy_pb2.Completion) -> Completion:
    tokens = cast(Tokens, tensors.decode(message.tokens, name="tokens", dtype=np.int32, ndim=1))
    logprobs = floats(message.logprobs, name="logprobs")
    spans = tuple(
        VersionSpan(span.epoch, span.version, span.start, span.end) for span in message.version_spans
    )
    reason = _FINISH_REASONS.get(message.finish_reason)
    if reason is None:
        raise ProtocolError(
            "the policy sent a finish reason that this client does not know; upgrade the client"
        )
    if len(tokens) != len(logprobs) or not _cover(spans, len(tokens)):
        raise ProtocolError("the policy sent a completion whose tokens lack log-probs or versions")
    return Completion(
        message.prompt_index,
        message.sample_index,
        tokens,
        logprobs,
        message.text,
        reason,
        spans,
        message.prompt_tokens,
    )


def _cover(spans: Sequence[VersionSpan], length: int) -> bool:
    """Returns whether the spans cover [0, length) once, in order."""
    position = 0
    for span in spans:
        if span.start != position or span.end <= span.start:
            return False
        position = span.end
    return position == length


def _token_events(chunk: policy_pb2.TokenChunk) -> Iterator[TokenEvent]:
    places = tensors.decode(chunk.completions, name="completions", dtype=np.int32, ndim=2)
    flat = tensors.decode(chunk.tokens.tokens, name="tokens", dtype=np.int32, ndim=1)
    lengths = tensors.decode(chunk.tokens.lengths, name="lengths", dtype=np.int32, ndim=1)
    tokens = tensors.split(flat, lengths, name="tokens")
    logprobs = tensors.split(floats(chunk.logprobs, name="logprobs"), lengths, name="logprobs")
    if places.shape != (len(tokens), 2):
        raise ProtocolError(f"the policy sent tokens of {len(tokens)} completions, but named {places.shape}")
    for (prompt, sample), row, values in zip(places.tolist(), tokens, logprobs, strict=True):
        yield TokenEvent(prompt, sample, cast(Tokens, row), cast(Floats, values))
