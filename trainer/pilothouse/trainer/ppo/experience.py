"""Everything one step knows of its batch, as tensors. R response tokens of B responses, end to end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pilothouse.trainer.ppo.batch import Integers, RolloutBatch, flat_rows
from pilothouse.trainer.ppo.ragged import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A batch's arrays on the trainer's device."""

    lengths: Tensor
    """int64 [B], response tokens."""
    behaviour: Tensor
    """[R] nats, the engine's at generation."""
    reference: Tensor
    """[R] nats."""
    scores: Tensor
    """[B], as the reward service gave them."""
    finished: Tensor
    """bool [B]."""
    staleness: Tensor
    """int64 [B], versions behind the trainer."""
    on_policy: bool
    """Whether every token is of the trainer's own version."""

    @classmethod
    def of(cls, batch: RolloutBatch, version: int, device: torch.device) -> "Rollout":
        """Returns a batch as seen by a trainer at ``version``."""
        staleness = torch.from_numpy(batch.staleness(version)).to(device)
        return cls(
            lengths=torch.from_numpy(batch.response_lengths.astype(np.int64)).to(device),
            behaviour=torch.from_numpy(batch.behaviour_logprobs.astype(np.float32)).to(device),
            reference=torch.from_numpy(batch.reference_logprobs.astype(np.float32)).to(device),
            scores=torch.from_numpy(batch.scores.astype(np.float32)).to(device),
            finished=torch.from_numpy(batch.finished.copy()).to(device),
            staleness=staleness,
            on_policy=not bool(staleness.max()),
        )

    @property
    def fresh_tokens(self) -> Tensor:
        """Bool [R], tokens of responses that are wholly of the trainer's version.

        A response with an older token counts as stale throughout: its later tokens saw an older KV cache.
        """
        return torch.repeat_interleave(self.staleness == 0, self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What the epochs over a batch learn from; fixed before the first of them."""

    offsets: Integers
    """int64 [B + 1], where each response starts in the flat tensors."""
    proximal: Tensor
    """[R] nats, before the update."""
    reference: Tensor
    """[R] nats."""
    advantages: Tensor
    """[R]."""
    returns: Tensor
    """[R]."""
    values: Tensor
    """[R], before the update."""
    weights: Tensor
    """[R], importance weights."""

    def tokens(self, rows: Sequence[int]) -> Tensor:
        """Returns int64 [R'], the places in the flat tensors of the responses ``rows``, in their order."""
        return torch.from_numpy(flat_rows(self.offsets, rows)).to(self.proximal.device)


def in_batch_order(
    parts: Sequence[tuple[Sequence[int], Tensor]], batch: RolloutBatch, ranks: Ranks
) -> Tensor:
    """Joins all ranks' [R'] pieces, each of some responses in some order, to one [R] tensor.

    Args:
        parts: This rank's pieces, at least one: rows of the batch and what was found for them.
        batch: Whose order the result has.
        ranks: Who has the other pieces.
    """
    index = torch.cat([torch.from_numpy(flat_rows(batch.offsets, rows)) for rows, _ in parts])
    joined = torch.cat([values for _, values in parts])
    mine = joined.new_zeros(int(batch.offsets[-1])).index_copy(0, index.to(joined.device), joined)
    return ranks.sum(mine)
