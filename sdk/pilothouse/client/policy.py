"""Clients of the policy service."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Unpack, overload

import numpy.typing as npt

from pilothouse.client import policy_codec as codec
from pilothouse.client.base import AsyncClient, SyncClient
from pilothouse.client.cancellation import Cancellation
from pilothouse.client.channels import Security
from pilothouse.client.types import (
    Completion,
    PolicyLogprobs,
    PolicyModel,
    Prompts,
    SamplingParams,
    TokenEvent,
    TokenRow,
)
from pilothouse.v1 import policy_pb2, policy_pb2_grpc


class PolicyClient(SyncClient):
    """Samples completions from the policy."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = policy_pb2_grpc.PolicyServiceStub(self._channel)

    def generate(
        self,
        prompts: Prompts,
        sampling: SamplingParams | None = None,
        *,
        n: int = 1,
        seeds: Sequence[int] | None = None,
        cancellation: Cancellation | None = None,
    ) -> list[Completion]:
        """Returns ``n`` completions of every prompt, by prompt, then by sample.

        Args:
            prompts: Texts, token id rows or conversations.
            sampling: How tokens are drawn; None for the defaults.
            n: Completions per prompt.
            seeds: One per prompt; completion j of prompt i depends on (seeds[i], j) and the weights only.
                None: drawn by the server.
            cancellation: Ends the call from another thread.

        Raises:
            InvalidRequestError: A prompt or limit is not what the model takes.
            QueueFullError: The policy has as much waiting work as it takes.
            UnavailableError: The policy cannot be reached or went away.
            concurrent.futures.CancelledError: The call was cancelled.
        """
        events = self.stream(prompts, sampling, n=n, seeds=seeds, cancellation=cancellation)
        return codec.in_order((event for event in events if isinstance(event, Completion)), len(prompts), n)

    def stream(
        self,
        prompts: Prompts,
        sampling: SamplingParams | None = None,
        *,
        n: int = 1,
        seeds: Sequence[int] | None = None,
        stream_tokens: bool = False,
        cancellation: Cancellation | None = None,
    ) -> Iterator[Completion | TokenEvent]:
        """Yields completions as they end and, if asked, tokens as they are sampled; see ``generate``.

        Closing the iterator cancels what is still running.
        """
        request = codec.generate_request(prompts, sampling, n=n, seeds=seeds, stream_tokens=stream_tokens)
        for response in self._stream(self._stub.Generate, request, cancellation):
            yield from codec.events(response)

    @overload
    def logprobs(
        self, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike, temperature: float = 1.0
    ) -> PolicyLogprobs: ...

    @overload
    def logprobs(
        self,
        *,
        prompts: Sequence[str],
        responses: Sequence[str],
        unfinished: bool = False,
        temperature: float = 1.0,
    ) -> PolicyLogprobs: ...

    def logprobs(
        self,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        temperature: float = 1.0,
        *,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        unfinished: bool = False,
    ) -> PolicyLogprobs:
        """Returns the log-probs of response tokens under the weights now serving.

        Give sequences and prompt lengths, or prompts and responses.

        Args:
            sequences: Token ids, prompt and response joined, one row each.
            prompt_lengths: int [B]: how many tokens of every row are the prompt, each at least 1.
            temperature: Divides the logits.
            prompts: Texts, one per row, each of at least one token.
            responses: Texts, one per row.
            unfinished: The responses go on; else each is followed by the end-of-sequence id, as in training.

        Raises:
            InvalidRequestError: Neither or both kinds were given, or a row is not what the model takes.
        """
        request = codec.logprobs_request(
            sequences, prompt_lengths, temperature, prompts, responses, unfinished
        )
        return codec.logprobs(request, self._call(self._stub.Logprobs, request))

    def model(self) -> PolicyModel:
        """Returns what is being served, its limits and its weight version."""
        return codec.model(self._call(self._stub.GetModel, policy_pb2.GetModelRequest()))


class AsyncPolicyClient(AsyncClient):
    """Samples completions from the policy, for asyncio."""

    def __init__(self, target: str, *, timeout_seconds: float = 300.0, **security: Unpack[Security]) -> None:
        super().__init__(target, timeout_seconds=timeout_seconds, **security)
        self._stub = policy_pb2_grpc.PolicyServiceStub(self._channel)

    async def generate(
        self,
        prompts: Prompts,
        sampling: SamplingParams | None = None,
        *,
        n: int = 1,
        seeds: Sequence[int] | None = None,
    ) -> list[Completion]:
        """As ``PolicyClient.generate``."""
        events = [event async for event in self.stream(prompts, sampling, n=n, seeds=seeds)]
        return codec.in_order((event for event in events if isinstance(event, Completion)), len(prompts), n)

    async def stream(
        self,
        prompts: Prompts,
        sampling: SamplingParams | None = None,
        *,
        n: int = 1,
        seeds: Sequence[int] | None = None,
        stream_tokens: bool = False,
    ) -> AsyncIterator[Completion | TokenEvent]:
        """As ``PolicyClient.stream``."""
        request = codec.generate_request(prompts, sampling, n=n, seeds=seeds, stream_tokens=stream_tokens)
        async for response in self._stream(self._stub.Generate, request):
            for event in codec.events(response):
                yield event

    @overload
    async def logprobs(
        self, sequences: Sequence[TokenRow], prompt_lengths: npt.ArrayLike, temperature: float = 1.0
    ) -> PolicyLogprobs: ...

    @overload
    async def logprobs(
        self,
        *,
        prompts: Sequence[str],
        responses: Sequence[str],
        unfinished: bool = False,
        temperature: float = 1.0,
    ) -> PolicyLogprobs: ...

    async def logprobs(
        self,
        sequences: Sequence[TokenRow] | None = None,
        prompt_lengths: npt.ArrayLike | None = None,
        temperature: float = 1.0,
        *,
        prompts: Sequence[str] | None = None,
        responses: Sequence[str] | None = None,
        unfinished: bool = False,
    ) -> PolicyLogprobs:
        """As ``PolicyClient.logprobs``."""
        request = codec.logprobs_request(
            sequences, prompt_lengths, temperature, prompts, responses, unfinished
        )
        return codec.logprobs(request, await self._call(self._stub.Logprobs, request))

    async def model(self) -> PolicyModel:
        """As ``PolicyClient.model``."""
        return codec.model(await self._call(self._stub.GetModel, policy_pb2.GetModelRequest()))
