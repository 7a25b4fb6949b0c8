"""Checks what a Generate or Logprobs request asks for, and turns it into what the engine takes."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from pilothouse import tensors
from pilothouse.errors import InvalidRequestError, InvalidTensorError
from pilothouse.models.text import Joined, TextCodec
from pilothouse.models.text_batch import join_all
from pilothouse.policy.sampling import Sampling
from pilothouse.sequences import kind_of
from pilothouse.tensors import Tokens
from pilothouse.v1 import policy_pb2, tensor_pb2

MAX_STOP_IDS = 64
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MIN_TEMPERATURE = 0.001
MAX_TEMPERATURE = 100.0
MAX_CHAT_MESSAGES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a Logprobs request asks for."""

    sequences: list[Tokens]
    """Prompt and response joined."""
    prompt_lengths: list[int]
    temperature: float
    joined: list[Joined]
    """What the tokenizer made of texts; empty where token ids were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for."""

    vocabulary_size: int
    max_sequence_tokens: int
    max_waiting: int
    max_samples: int
    max_prompt_bytes: int
    max_request_tokens: int
    eos_ids: tuple[int, ...]

    def sampling(self, params: policy_pb2.SamplingParams) -> Sampling:
        """Returns the sampling parameters, defaults filled in.

        Raises:
            InvalidRequestError: One is out of range.
        """
        temperature = params.temperature if params.HasField("temperature") else 1.0
        top_p = params.top_p if params.HasField("top_p") else 1.0
        shortest = params.min_new_tokens if params.HasField("min_new_tokens") else 0
        longest = params.max_new_tokens if params.HasField("max_new_tokens") else 64
        if temperature != 0 and not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise InvalidRequestError(
                f"temperature must be 0 (greedy) or from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, "
                f"got {temperature:g}"
            )
        if not 0 < top_p <= 1:
            raise InvalidRequestError(f"top_p must be in (0, 1], got {top_p:g}; 1 is off")
        if params.top_k < 0:
            raise InvalidRequestError(f"top_k must not be negative, got {params.top_k}; 0 is off")
        if longest < 1:
            raise InvalidRequestError(f"max_new_tokens must be at least 1, got {longest}")
        if longest >= self.max_sequence_tokens:
            raise InvalidRequestError(
                f"max_new_tokens {longest} leaves no room for a prompt; a sequence has at most "
                f"{self.max_sequence_tokens} tokens"
            )
        if not 0 <= shortest <= longest:
            raise InvalidRequestError(
                f"min_new_tokens must be from 0 to max_new_tokens ({longest}), got {shortest}"
            )
        eos = () if params.ignore_eos else self.eos_ids
        return Sampling(
            temperature=temperature,
            top_p=top_p,
            top_k=params.top_k,
            min_new_tokens=shortest,
            max_new_tokens=longest,
            stop_ids=tuple(dict.fromkeys((*eos, *self._stop_ids(params)))),
        )

    def stop_strings(self, params: policy_pb2.SamplingParams) -> tuple[str, ...]:
        """Returns the stop strings.

        Raises:
            InvalidRequestError: There are too many, or one is empty or too long.
        """
        stops = tuple(params.stop_strings)
        if len(stops) > MAX_STOP_STRINGS:
            raise InvalidRequestError(f"at most {MAX_STOP_STRINGS} stop_strings, got {len(stops)}")
        for stop in stops:
            if not 1 <= len(stop.encode()) <= MAX_STOP_BYTES:
                raise InvalidRequestError(
                    f"a stop string has {len(stop.encode())} bytes; it must have 1 to {MAX_STOP_BYTES}"
                )
        return stops

    def samples(self, request: policy_pb2.GenerateRequest) -> int:
        """Returns how many completions every prompt gets.

        Raises:
            InvalidRequestError: Not between 1 and the limit.
        """
        n = request.n if request.HasField("n") else 1
        if not 1 <= n <= self.max_samples:
            raise InvalidRequestError(f"n must be from 1 to {self.max_samples}, got {n}")
        return n

    def prompts(self, request: policy_pb2.GenerateRequest, codec: TextCodec, n: int) -> tuple[Tokens, ...]:
        """Returns the prompts as token ids.

        Args:
            request: Texts, tokens or chats.
            codec: Turns text into tokens.
            n: Completions per prompt.

        Raises:
            InvalidRequestError: There are none or too many, or one is empty, too long or out of range.
        """
        kind = request.WhichOneof("prompts")
        if kind is None:
            raise InvalidRequestError("the request has no prompts; set texts, tokens or chats")
        if kind == "tokens":
            rows = tensors.decode_sequences(
                request.tokens,
                name="tokens",
                vocabulary_size=self.vocabulary_size,
                max_rows=self.max_waiting,
            )
            self._check_count(len(rows), n)
        else:
            texts: Sequence[str | tensor_pb2.Chat] = (
                request.texts.texts if kind == "texts" else request.chats.chats
            )
            self._check_count(len(texts), n)
            rows = [self._encode(text, index, codec) for index, text in enumerate(texts)]
        for index, row in enumerate(rows):
            self._check_length(row, index)
        return tuple(rows)

    def seeds(self, request: policy_pb2.GenerateRequest, prompts: int) -> tuple[int, ...]:
        """Returns one seed per prompt, drawn at random where none are given.

        Raises:
            InvalidTensorError: They are not int64 of shape [batch].
        """
        if not request.HasField("seeds"):
            return tuple(secrets.randbits(63) for _ in range(prompts))
        seeds = tensors.decode(request.seeds, name="seeds", dtype=np.int64, ndim=1)
        if len(seeds) != prompts:
            raise InvalidTensorError(f"seeds must have one entry per prompt ({prompts}), got {len(seeds)}")
        return tuple(seeds.tolist())

    def asked(self, request: policy_pb2.LogprobsRequest, codec: TextCodec) -> Asked:
        """Returns what a Logprobs request asks for, texts made into token ids.

        Raises:
            InvalidRequestError: Both texts and token ids were sent, or neither, or a text, length, id or the
                temperature is out of range.
        """
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise InvalidRequestError(
                f"temperature must be from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}, got {temperature:g}"
            )
        if kind_of(request) == "texts":
            joined = self._joined(request.texts, codec)
            rows, lengths = [row.tokens for row in joined], [row.prompt_length for row in joined]
            return Asked(sequences=rows, prompt_lengths=lengths, temperature=temperature, joined=joined)
        rows = self.sequences(request.sequences, "sequences")
        lengths = self._prompt_lengths(request.prompt_lengths, rows)
        return Asked(sequences=rows, prompt_lengths=lengths, temperature=temperature, joined=[])

    def sequences(self, message: tensor_pb2.TokenSequences, name: str) -> list[Tokens]:
        """Returns whole sequences that the model can compute.

        Raises:
            InvalidRequestError: There are none or too many, or one is too long or has ids out of range.
        """
        most = self.max_request_tokens
        total = prod(message.tokens.shape)  # decode holds the shape against the bytes
        if total > most:
            raise InvalidRequestError(f"{name} have {total} tokens; send at most {most} at a time")
        rows = tensors.decode_sequences(
            message,
            name=name,
            vocabulary_size=self.vocabulary_size,
            max_rows=most,  # every row has a token
        )
        if not rows:
            raise InvalidRequestError(f"{name} is empty; send at least one sequence")
        for index, row in enumerate(rows):
            if len(row) > self.max_sequence_tokens:
                raise InvalidRequestError(
                    f"{name}[{index}] has {len(row)} tokens; at most {self.max_sequence_tokens} are served"
                )
        return rows

    def _joined(self, texts: tensor_pb2.TextSequences, codec: TextCodec) -> list[Joined]:
        return join_all(
            codec,
            texts.prompts,
            texts.responses,
            unfinished=texts.unfinished,
            max_text_bytes=self.max_prompt_bytes,
            max_sequence_tokens=self.max_sequence_tokens,
            max_request_tokens=self.max_request_tokens,
        )

    def _prompt_lengths(self, message: tensor_pb2.Tensor, rows: Sequence[Tokens]) -> list[int]:
        array = tensors.decode(message, name="prompt_lengths", dtype=np.int32, ndim=1)
        lengths: list[int] = array.tolist()
        if len(lengths) != len(rows):
            raise InvalidTensorError(
                f"prompt_lengths must have one entry per sequence ({len(rows)}), got {len(lengths)}"
            )
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            if not 1 <= length <= len(row):
                raise InvalidRequestError(
                    f"prompt_lengths[{index}] must be from 1 to {len(row)} (the sequence), got {length}"
                )
        return lengths

    def _stop_ids(self, params: policy_pb2.SamplingParams) -> Sequence[int]:
        ids = list(params.stop_token_ids)
        if len(ids) > MAX_STOP_IDS:
            raise InvalidRequestError(f"at most {MAX_STOP_IDS} stop_token_ids, got {len(ids)}")
        if any(not 0 <= token < self.vocabulary_size for token in ids):
            raise InvalidRequestError(f"stop_token_ids must be in [0, {self.vocabulary_size})")
        return ids

    def _check_count(self, prompts: int, n: int) -> None:
        if prompts == 0:
            raise InvalidRequestError("the request has no prompts; send at least one")
        if prompts * n > self.max_waiting:
            raise InvalidRequestError(
                f"{prompts} prompts with n = {n} make {prompts * n} completions; at most {self.max_waiting} "
                "fit into one request, so split it"
            )

    def _check_length(self, row: Tokens, index: int) -> None:
        if len(row) == 0:
            raise InvalidRequestError(f"prompt {index} has no tokens; every prompt needs at least one")
        if len(row) >= self.max_sequence_tokens:
            raise InvalidRequestError(
                f"prompt {index} has {len(row)} tokens; prompt and completion together have at most "
                f"{self.max_sequence_tokens}, so shorten it"
            )

    def _encode(self, text: str | tensor_pb2.Chat, index: int, codec: TextCodec) -> Tokens:
        parts = [text] if isinstance(text, str) else [part.content for part in text.messages]
        size = sum(len(part.encode()) for part in parts)
        if size > self.max_prompt_bytes:
            raise InvalidRequestError(
                f"prompt {index} has {size} bytes; at most {self.max_prompt_bytes} are read"
            )
        if isinstance(text, str):
            return codec.encode(text)
        if not 0 < len(text.messages) <= MAX_CHAT_MESSAGES:
            raise InvalidRequestError(
                f"chat {index} has {len(text.messages)} messages; send 1 to {MAX_CHAT_MESSAGES}"
            )
        return codec.encode_chat([(message.role, message.content) for message in text.messages])
