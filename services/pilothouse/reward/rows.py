"""The tokenising layer at the service's edge: what callers send becomes the rows that every backend reads."""

from collections.abc import Sequence
from math import inf
from time import monotonic

from pilothouse.errors import InvalidRequestError
from pilothouse.reward.backends.base import Backend, Row
from pilothouse.reward.batch import Batch, Texts
from pilothouse.tensors import Tokens


class RowMaker:
    """Checks requests against the limits and turns them into rows, for one or several backends."""

    def __init__(self, backends: Sequence[Backend], *, max_rows: int, max_text_characters: int) -> None:
        """Takes the backends in the order in which their rows are wanted.

        Args:
            backends: What reads the rows.
            max_rows: Most rows of one request.
            max_text_characters: Longest prompt or response as text.
        """
        self._backends = tuple(backends)
        self.max_rows = max_rows
        """Most rows of one request."""
        self._max_text_characters = max_text_characters
        digests = {backend.codec.digest if backend.codec else "" for backend in self._backends}
        self.tokenizer_digest = digests.pop() if len(digests) == 1 else ""
        """Digest of ``token_codec()``; empty where there is none."""

    def vocabulary_size(self) -> int:
        """Returns one above the largest token id that callers may send.

        Raises:
            InvalidRequestError: A backend has no tokenizer, or they have different ones.
        """
        codecs = [backend.codec for backend in self._backends]
        known = [codec for codec in codecs if codec is not None]
        if len(known) < len(codecs):
            raise InvalidRequestError(
                "this scorer reads text and has no tokenizer; send texts, or set `tokenizer`"
            )
        if len({codec.digest for codec in known}) > 1:
            raise InvalidRequestError("the parts of this scorer have different tokenizers; send texts")
        return min(backend.vocabulary_size for backend in self._backends)

    def check_count(self, count: int) -> None:
        """Makes sure that a request may have so many rows.

        Raises:
            InvalidRequestError: There are none, or too many.
        """
        if not 1 <= count <= self.max_rows:
            raise InvalidRequestError(
                f"a request must have 1 to {self.max_rows} rows, got {count}; split the batch"
            )

    def rows(self, batch: Batch, deadline: float = inf) -> list[list[Row]]:
        """Returns the rows of every backend; see ``from_texts`` and ``from_tokens``."""
        if isinstance(batch, Texts):
            return self.from_texts(batch.prompts, batch.responses, deadline)
        return self.from_tokens(batch.sequences, batch.prompt_lengths, deadline)

    def from_texts(
        self, prompts: Sequence[str], responses: Sequence[str], deadline: float = inf
    ) -> list[list[Row]]:
        """Returns the rows of every backend; where tokens are wanted, EOS is put after the response.

        Args:
            prompts: One a row.
            responses: One a row.
            deadline: When the caller stops waiting, by ``time.monotonic``.

        Raises:
            InvalidRequestError: There are no rows, too many, unequal numbers, or a text is too long.
        """
        if len(prompts) != len(responses):
            raise InvalidRequestError(
                f"{len(prompts)} prompts, {len(responses)} responses; send one of each a row"
            )
        self.check_count(len(responses))
        pairs = list(zip(prompts, responses, strict=True))
        self._check_texts(pairs)
        return [self._text_rows(backend, pairs, deadline) for backend in self._backends]

    def from_tokens(
        self, sequences: Sequence[Tokens], prompt_lengths: Sequence[int], deadline: float = inf
    ) -> list[list[Row]]:
        """Returns the rows of every backend; where text is wanted, special tokens are left out of it.

        Args:
            sequences: Prompt and response joined, int32 of shape [tokens] each, ids below
                ``vocabulary_size()``.
            prompt_lengths: Tokens of every sequence that are the prompt.
            deadline: When the caller stops waiting, by ``time.monotonic``.

        Raises:
            InvalidRequestError: There are no rows, too many, a prompt longer than its sequence, or a sequence
                that is too long.
        """
        if len(prompt_lengths) != len(sequences):
            raise InvalidRequestError(f"{len(prompt_lengths)} prompt_lengths for {len(sequences)} sequences")
        self.check_count(len(sequences))
        for row, (tokens, length) in enumerate(zip(sequences, prompt_lengths, strict=True)):
            if not 0 <= length <= len(tokens):
                raise InvalidRequestError(
                    f"prompt_lengths[{row}] is {length}, but the sequence has {len(tokens)} tokens"
                )
        return [self._token_rows(backend, sequences, prompt_lengths, deadline) for backend in self._backends]

    def _check_texts(self, pairs: Sequence[tuple[str, str]]) -> None:
        for row, pair in enumerate(pairs):
            longest = max(map(len, pair))
            if longest > self._max_text_characters:
                raise InvalidRequestError(
                    f"the text of row {row} has {longest} characters; the limit is "
                    f"{self._max_text_characters}"
                )

    def _text_rows(self, backend: Backend, pairs: Sequence[tuple[str, str]], deadline: float) -> list[Row]:
        if backend.reads == "text":
            return [Row(prompt, response, deadline=deadline) for prompt, response in pairs]
        assert backend.codec is not None
        joined = [backend.codec.join(prompt, response) for prompt, response in pairs]
        return _within(backend, [Row(tokens=row.tokens, deadline=deadline) for row in joined])

    def _token_rows(
        self, backend: Backend, sequences: Sequence[Tokens], prompt_lengths: Sequence[int], deadline: float
    ) -> list[Row]:
        if backend.reads == "tokens":
            return _within(backend, [Row(tokens=tokens, deadline=deadline) for tokens in sequences])
        assert backend.codec is not None
        decode = backend.codec.decode
        pairs = [
            (decode(tokens[:length]), decode(tokens[length:]))
            for tokens, length in zip(sequences, prompt_lengths, strict=True)
        ]
        self._check_texts(pairs)
        return [Row(prompt, response, deadline=deadline) for prompt, response in pairs]


def deadline_of(seconds_left: float | None) -> float:
    """Returns when a caller stops waiting, by ``time.monotonic``; infinity where it never does.

    Args:
        seconds_left: What gRPC says of the call: ``context.time_remaining()``.
    """
    return inf if seconds_left is None else monotonic() + seconds_left


def _within(backend: Backend, rows: list[Row]) -> list[Row]:
    for index, row in enumerate(rows):
        if len(row.tokens) > backend.max_sequence_tokens:
            raise InvalidRequestError(
                f"row {index} has {len(row.tokens)} tokens, the model takes {backend.max_sequence_tokens}; "
                "shorten the prompt or the response"
            )
    return rows
