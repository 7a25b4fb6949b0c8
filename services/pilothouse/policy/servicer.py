"""PolicyService on the wire: decodes, calls the engine, encodes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np

from pilothouse import tensors
from pilothouse.models.text import TextCodec
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.limits import Limits
from pilothouse.policy.requests import Completed, FinishReason, NewToken, Request, Update
from pilothouse.policy.runner import logprobs_in_pieces
from pilothouse.policy.stop import StopStrings
from pilothouse.policy.weights import WeightTransactions
from pilothouse.sequences import encode_tokenised
from pilothouse.v1 import policy_pb2, policy_pb2_grpc, tensor_pb2

Context = grpc.aio.ServicerContext[Any, Any]

_REASONS: dict[FinishReason, policy_pb2.FinishReason] = {
    "stop_token": policy_pb2.FINISH_REASON_STOP_TOKEN,
    "stop_string": policy_pb2.FINISH_REASON_STOP_STRING,
    "length": policy_pb2.FINISH_REASON_LENGTH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What GetModel tells of the model besides its weights."""

    name: str
    architecture: str
    max_running: int
    tokenizer_digest: str


class PolicyServicer(policy_pb2_grpc.PolicyServiceServicer):
    """Serves generation, scoring and the description of the model."""

    def __init__(
        self,
        engine: PolicyEngine,
        transactions: WeightTransactions,
        codec: TextCodec,
        limits: Limits,
        card: ModelCard,
        *,
        batch_tokens: int,
    ) -> None:
        """Puts the wire before an engine.

        Args:
            engine: Does the work.
            transactions: Knows the version that serves.
            codec: Text at the service's edge.
            limits: What one request may ask for.
            card: For GetModel.
            batch_tokens: Tokens scored at a time, between two decode steps.
        """
        self._engine = engine
        self._transactions = transactions
        self._codec = codec
        self._limits = limits
        self._card = card
        self._batch_tokens = batch_tokens

    async def Generate(
        self, request: policy_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[policy_pb2.GenerateResponse]:
        """Streams every completion when it ends; leaving the stream frees its slots."""
        stops = self._limits.stop_strings(request.sampling)
        updates: asyncio.Queue[Update] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listener(update: Update) -> None:
            loop.call_soon_threadsafe(updates.put_nowait, update)

        # On a thread: tokenising long texts takes a while.
        work = await asyncio.to_thread(self._decode, request, stops, listener)
        self._engine.submit(work)
        try:
            unfinished = work.size
            while unfinished:
                update = await updates.get()
                if update.error is not None:
                    raise update.error
                if update.tokens:
                    yield policy_pb2.GenerateResponse(chunk=_encode_chunk(update.tokens))
                for completed in update.completed:
                    yield policy_pb2.GenerateResponse(completion=self._encode(completed))
                unfinished -= len(update.completed)
        finally:
            self._engine.cancel(work)

    async def Logprobs(
        self, request: policy_pb2.LogprobsRequest, context: Context
    ) -> policy_pb2.LogprobsResponse:
        """Scores responses, all with the version that serves when scoring begins."""
        # On a thread: tokenising long texts takes a while.
        asked = await asyncio.to_thread(self._limits.asked, request, self._codec)
        served = self._transactions.current
        pieces = logprobs_in_pieces(
            served.weights,
            asked.sequences,
            asked.prompt_lengths,
            temperature=asked.temperature,
            batch_tokens=self._batch_tokens,
        )
        logprobs = await asyncio.wrap_future(self._engine.in_pieces(pieces))
        rows = zip(asked.sequences, asked.prompt_lengths, strict=True)
        return policy_pb2.LogprobsResponse(
            logprobs=tensors.encode(logprobs, np.float32),
            lengths=tensors.encode([len(row) - length for row, length in rows], np.int32),
            epoch=served.version.epoch,
            version=served.version.version,
            tokenised=encode_tokenised(asked.joined),
        )

    async def GetModel(
        self, request: policy_pb2.GetModelRequest, context: Context
    ) -> policy_pb2.GetModelResponse:
        """Describes the model, its limits and its current weights."""
        served = self._transactions.current
        return policy_pb2.GetModelResponse(
            model=self._card.name,
            architecture=self._card.architecture,
            epoch=served.version.epoch,
            version=served.version.version,
            digest=served.digest.hex(),
            vocabulary_size=self._limits.vocabulary_size,
            max_sequence_tokens=self._limits.max_sequence_tokens,
            max_running=self._card.max_running,
            max_waiting=self._limits.max_waiting,
            eos_token_ids=self._limits.eos_ids,
            tokenizer_digest=self._card.tokenizer_digest,
        )

    def _decode(
        self,
        request: policy_pb2.GenerateRequest,
        stops: tuple[str, ...],
        listener: Callable[[Update], object],
    ) -> Request:
        n = self._limits.samples(request)
        sampling = self._limits.sampling(request.sampling)
        prompts = self._limits.prompts(request, self._codec, n)
        return Request(
            prompts=prompts,
            seeds=self._limits.seeds(request, len(prompts)),
            n=n,
            sampling=sampling,
            stream=request.stream_tokens,
            stop=partial(StopStrings, self._codec, stops) if stops else None,
            listener=listener,
        )

    def _encode(self, completed: Completed) -> policy_pb2.Completion:
        text = self._codec.decode(completed.tokens)
        return policy_pb2.Completion(
            prompt_index=completed.prompt_index,
            sample_index=completed.sample_index,
            tokens=tensors.encode(completed.tokens, np.int32),
            logprobs=tensors.encode(completed.logprobs, np.float32),
            text=text[: max(0, len(text) - completed.stop_characters)],
            finish_reason=_REASONS[completed.reason],
            version_spans=[
                tensor_pb2.VersionSpan(
                    epoch=span.version.epoch, version=span.version.version, start=span.start, end=span.end
                )
                for span in completed.spans
            ],
            prompt_tokens=completed.prompt_tokens,
        )


def _encode_chunk(tokens: list[NewToken]) -> policy_pb2.TokenChunk:
    rows = np.array([(new.prompt_index, new.sample_index) for new in tokens], dtype=np.int32)
    return policy_pb2.TokenChunk(
        completions=tensors.encode(rows),
        tokens=tensors.encode_sequences([[new.token] for new in tokens]),
        logprobs=tensors.encode([new.logprob for new in tokens], np.float32),
    )
