"""Log-probabilities under the frozen model: arrays in, arrays out.

Axes: B sequences, R response tokens of all of them end to end. Log-probabilities are nats.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pilothouse.errors import InvalidRequestError, InvalidTensorError, NonFiniteScoreError
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.weights import DecoderWeights
from pilothouse.tensors import Floats, Tokens

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 100.0
"""What the policy can sample with. Far below, the scaled logits overflow and the log-probs are NaN."""


class ReferenceEngine:
    """Owns the frozen weights; holds no other state, so that equal requests get equal answers.

    The batches of a request follow from the request alone, never from what else the server is doing.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        *,
        max_sequence_tokens: int,
        max_batch_tokens: int,
        max_request_tokens: int,
    ) -> None:
        self._weights = weights
        self._max_batch_tokens = max_batch_tokens
        self.max_sequence_tokens = max_sequence_tokens
        """Longest prompt and response together."""
        self.max_request_tokens = max_request_tokens
        """Most tokens of one request, over all its sequences."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids are below this."""
        return self._weights.spec.vocabulary_size

    def check(
        self, sequences: Sequence[Tokens], prompt_lengths: npt.NDArray[np.int32], temperature: float
    ) -> None:
        """Makes sure that ``logprobs`` can compute a request.

        Raises:
            InvalidTensorError: The prompt lengths are not one per sequence, from 1 to the sequence's length.
            InvalidRequestError: There is no sequence, one is too long, there are too many tokens, or the
                temperature is out of range.
        """
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        if not sequences:
            raise InvalidRequestError("the request has no sequences; send at least one")
        if len(prompt_lengths) != len(sequences):
            raise InvalidTensorError(
                f"got {len(prompt_lengths)} prompt_lengths for {len(sequences)} sequences; send one for each"
            )
        if (prompt_lengths < 1).any() or (prompt_lengths > lengths).any():
            raise InvalidTensorError(
                "each of prompt_lengths must be at least 1 and at most its sequence's length"
            )
        if lengths.max() > self.max_sequence_tokens:
            raise InvalidRequestError(
                f"a sequence has {lengths.max()} tokens; shorten it to {self.max_sequence_tokens}"
            )
        if lengths.sum() > self.max_request_tokens:
            raise InvalidRequestError(
                f"the request has {lengths.sum()} tokens; split it into ones of {self.max_request_tokens}"
            )
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise InvalidRequestError(
                f"temperature must be above 0 (from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}), "
                f"got {temperature:g}"
            )

    def logprobs(
        self,
        sequences: Sequence[Tokens],
        prompt_lengths: Sequence[int],
        temperature: float,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Floats:
        """Returns the log-probability of every response token, float32 [R], in the order of the sequences.

        Args:
            sequences: Prompt and response joined, int32 [length] each; accepted by ``check``.
            prompt_lengths: Prompt tokens of every sequence.
            temperature: Divides the logits.
            cancelled: Asked between batches; the rest is not computed once it says so.

        Raises:
            NonFiniteScoreError: The model's log-probabilities are NaN or infinite.
        """
        parts: list[Floats] = [np.empty(0, np.float32)]
        with torch.inference_mode():
            for rows in self._batches([len(sequence) for sequence in sequences]):
                if cancelled():
                    break
                part = response_logprobs(
                    self._weights, sequences[rows], prompt_lengths[rows], temperature=temperature
                )
                parts.append(part.cpu().numpy())
        logprobs = np.concatenate(parts)
        if not np.isfinite(logprobs).all():
            raise NonFiniteScoreError(
                "the reference model's log-probabilities are not finite; check its weights, or serve it in "
                "float32"
            )
        return logprobs

    def _batches(self, lengths: Sequence[int]) -> Iterator[slice]:
        """Yields runs of neighbours of at most ``max_batch_tokens``, each of at least one sequence."""
        start = tokens = 0
        for row, length in enumerate(lengths):
            if row > start and tokens + length > self._max_batch_tokens:
                yield slice(start, row)
                start, tokens = row, 0
            tokens += length
        yield slice(start, len(lengths))
