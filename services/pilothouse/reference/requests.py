"""Reads a Logprobs request: makes text into token ids, holds everything against the engine's limits."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilothouse import tensors
from pilothouse.errors import InvalidTensorError
from pilothouse.models.text import Joined, TextCodec
from pilothouse.models.text_batch import join_all
from pilothouse.reference.engine import ReferenceEngine
from pilothouse.sequences import encode_tokenised, kind_of
from pilothouse.tensors import Floats, Tokens
from pilothouse.v1 import reference_pb2, tensor_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for."""

    sequences: list[Tokens]
    """Prompt and response joined."""
    prompt_lengths: list[int]
    temperature: float
    behaviour: Floats | None
    """Behaviour log-probabilities of all response tokens, float32 [R]; None where none were sent."""
    tokenised: tensor_pb2.TokenisedTexts | None
    """What the tokenizer made of texts; None where token ids were sent."""

    @property
    def response_lengths(self) -> list[int]:
        """Response tokens of every sequence."""
        return [len(row) - length for row, length in zip(self.sequences, self.prompt_lengths, strict=True)]


class RequestReader:
    """The service's tokenising layer."""

    def __init__(self, engine: ReferenceEngine, codec: TextCodec, *, max_text_bytes: int) -> None:
        """Reads for one model.

        Args:
            engine: Whose limits count.
            codec: The model's tokenizer.
            max_text_bytes: Longest prompt or response as text, in UTF-8 bytes.
        """
        self._engine = engine
        self._codec = codec
        self._max_text_bytes = max_text_bytes

    def read(self, request: reference_pb2.ReferenceServiceLogprobsRequest) -> Asked:
        """Returns what a request asks for.

        Raises:
            InvalidRequestError: Both texts and token ids were sent, or neither, or something is out of range.
        """
        temperature = request.temperature if request.HasField("temperature") else 1.0
        joined: list[Joined] = []
        if kind_of(request) == "texts":
            joined = self._joined(request.texts)
            sequences = [row.tokens for row in joined]
            prompts = np.array([row.prompt_length for row in joined], np.int32)
        else:
            sequences = self._sequences(request.sequences)
            prompts = _decode_prompt_lengths(request.prompt_lengths)
        self._engine.check(sequences, prompts, temperature)
        count = sum(map(len, sequences)) - int(prompts.sum())
        return Asked(
            sequences=sequences,
            prompt_lengths=prompts.tolist(),
            temperature=temperature,
            behaviour=_decode_behaviour(request, count),
            tokenised=encode_tokenised(joined),
        )

    def _sequences(self, message: tensor_pb2.TokenSequences) -> list[Tokens]:
        return tensors.decode_sequences(
            message,
            name="sequences",
            vocabulary_size=self._engine.vocabulary_size,
            max_rows=self._engine.max_request_tokens,  # every row has a token
        )

    def _joined(self, texts: tensor_pb2.TextSequences) -> list[Joined]:
        return join_all(
            self._codec,
            texts.prompts,
            texts.responses,
            unfinished=texts.unfinished,
            max_text_bytes=self._max_text_bytes,
            max_sequence_tokens=self._engine.max_sequence_tokens,
            max_request_tokens=self._engine.max_request_tokens,
        )


def _decode_prompt_lengths(message: tensor_pb2.Tensor) -> npt.NDArray[np.int32]:
    return tensors.decode(message, name="prompt_lengths", dtype=np.int32, ndim=1).astype(np.int32)


def _decode_behaviour(request: reference_pb2.ReferenceServiceLogprobsRequest, count: int) -> Floats | None:
    """Returns the behaviour log-probabilities, float32 [R], or None where none were sent."""
    if not request.HasField("behaviour_logprobs"):
        return None
    name = "behaviour_logprobs"
    values = tensors.decode(request.behaviour_logprobs, name=name, dtype=np.float32, ndim=1)
    behaviour = values.astype(np.float32, copy=False)
    if len(behaviour) != count:
        raise InvalidTensorError(
            f"{name} has {len(behaviour)} values for {count} response tokens; send one each"
        )
    return behaviour
