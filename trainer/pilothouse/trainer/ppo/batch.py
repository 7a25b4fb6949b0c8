"""A finished rollout: what one PPO step learns from. B sequences, R response tokens, no padding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pilothouse.errors import InvalidDataError
from pilothouse.tensors import Floats, Tokens

Integers = npt.NDArray[np.int64]
"""Counts and versions."""
Rows = npt.NDArray[np.intp] | Sequence[int]
"""Indices of sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutBatch:
    """Sequences with everything the services said about them.

    A response includes its EOS or stop token. Flat [R] arrays hold the responses end to end, in the order of
    ``sequences``.

    Raises:
        InvalidDataError: Lengths do not add up, or a number is not finite.
    """

    sequences: list[Tokens]
    """B rows int32 [P + C]: prompt and response."""
    prompt_lengths: npt.NDArray[np.int32]
    """[B], at least 1."""
    response_lengths: npt.NDArray[np.int32]
    """[B], at least 1."""
    behaviour_logprobs: Floats
    """[R] nats, the engine's at generation: after temperature, before any top-k or top-p cut."""
    reference_logprobs: Floats
    """[R] nats, under the frozen reference, same temperature."""
    scores: Floats
    """[B], from the reward service."""
    finished: npt.NDArray[np.bool_]
    """[B], whether the response ended by EOS or a stop token, not by the length limit."""
    epochs: Integers
    """[R], fencing epoch of the weights that made each token."""
    versions: Integers
    """[R], weight version that made each token."""
    reward_version: str
    """Version of the reward model behind every score."""
    reference_digest: str
    """Digest of the model behind every reference log-prob."""
    sample_ids: list[str]
    """B ids in the sample ledger."""

    def __post_init__(self) -> None:
        self._check_lengths()
        for name in ("behaviour_logprobs", "reference_logprobs", "scores"):
            if not np.isfinite(getattr(self, name)).all():
                raise InvalidDataError(
                    f"{name} holds NaN or infinity; drop the sample or mend the service behind it"
                )

    def __len__(self) -> int:
        return len(self.sequences)

    def _check_lengths(self) -> None:
        rows, tokens = len(self.sequences), int(self.response_lengths.sum())
        for name, wanted in (
            ("prompt_lengths", rows), ("response_lengths", rows), ("scores", rows), ("finished", rows),
            ("sample_ids", rows), ("behaviour_logprobs", tokens), ("reference_logprobs", tokens),
            ("epochs", tokens), ("versions", tokens),
        ):  # fmt: skip
            if len(getattr(self, name)) != wanted:
                raise InvalidDataError(f"{name} has {len(getattr(self, name))} entries, expected {wanted}")
        if rows == 0 or min(self.prompt_lengths.min(), self.response_lengths.min()) < 1:
            raise InvalidDataError(
                "a batch needs at least one sequence; prompts and responses at least one token"
            )
        lengths = [len(sequence) for sequence in self.sequences]
        if lengths != (self.prompt_lengths + self.response_lengths).tolist():
            raise InvalidDataError(
                "each sequence must be its prompt followed by its response, with no padding"
            )

    @property
    def offsets(self) -> Integers:
        """[B + 1] int64: where each response starts in the flat arrays, and R."""
        return np.concatenate([[0], np.cumsum(self.response_lengths, dtype=np.int64)])

    def staleness(self, version: int) -> Integers:
        """Returns [B] int64: how many versions the oldest token of each response is behind ``version``."""
        return version - np.minimum.reduceat(self.versions, self.offsets[:-1])

    def select(self, rows: Rows) -> "RolloutBatch":
        """Returns a batch of the named sequences in the named order."""
        chosen = [int(row) for row in rows]
        tokens = flat_rows(self.offsets, chosen)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("sequences", "sample_ids"):
            values[name] = [values[name][row] for row in chosen]
        for name in ("prompt_lengths", "response_lengths", "scores", "finished"):
            values[name] = values[name][chosen]
        for name in ("behaviour_logprobs", "reference_logprobs", "epochs", "versions"):
            values[name] = values[name][tokens]
        return RolloutBatch(**values)


def flat_rows(offsets: Integers, rows: Rows) -> Integers:
    """Returns the positions, int64, in a flat [R] array of the responses that ``rows`` names, in order."""
    spans = [np.arange(offsets[row], offsets[row + 1], dtype=np.int64) for row in rows]
    return np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
