"""A trainable decoder over one batch: states before each response token, frozen lower layers computed once.

Axes: B sequences, R response tokens of the chosen sequences, T packed input tokens, d width.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pilothouse.models.decoder import DecoderWeights, hidden_states
from pilothouse.models.packed import PackedBatch, pack, packed_attention
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.minibatches import micro_batches


def response_positions(batch: PackedBatch, response_lengths: Sequence[int]) -> Tensor:
    """Returns int64 [R]: where in the packed inputs the state that predicts each response token lies.

    Inputs are sequences without their last token, which predicts nothing: token t is read at position t - 1,
    so a response of C tokens is read at the last C inputs of its sequence.
    """
    ends = batch.offsets[1:].tolist()
    spans = [torch.arange(end - length, end) for end, length in zip(ends, response_lengths, strict=True)]
    return torch.cat(spans).to(batch.tokens.device)


class ResponseStates:
    """Runs a decoder over sequences of one batch."""

    def __init__(
        self,
        weights: DecoderWeights,
        batch: RolloutBatch,
        rows: Collection[int],
        *,
        frozen_layers: int,
        budget_tokens: int,
    ) -> None:
        """Prepares the sequences ``rows``, which later calls may ask for.

        Args:
            weights: Of the decoder.
            batch: Whose sequences they are.
            rows: Their numbers.
            frozen_layers: Lower layers that do not learn, and are computed here, once.
            budget_tokens: Of one forward pass.
        """
        self._weights = weights
        self._inputs = [sequence[:-1] for sequence in batch.sequences]
        self._response_lengths = batch.response_lengths.tolist()
        self._frozen_layers = frozen_layers
        self._trunk = self._compute_trunk(rows, budget_tokens) if frozen_layers else {}

    def __call__(self, rows: Sequence[int]) -> Tensor:
        """Returns [R, d] final hidden states, one per response token of the sequences ``rows``, in order."""
        batch = pack([self._inputs[row] for row in rows], self._weights.embedding.device)
        hidden = torch.cat([self._trunk[row] for row in rows]) if self._trunk else None
        states = hidden_states(
            self._weights,
            batch.tokens,
            batch.positions,
            packed_attention(self._weights.spec, batch),
            first_layer=self._frozen_layers,
            hidden=hidden,
        )
        return states[response_positions(batch, [self._response_lengths[row] for row in rows])]

    @torch.no_grad()
    def _compute_trunk(self, chosen: Collection[int], budget_tokens: int) -> dict[int, Tensor]:
        """Returns for each chosen sequence [length - 1, d], what the frozen lower layers make of it."""
        lengths = [len(row) for row in self._inputs]
        trunk: dict[int, Tensor] = {}
        for rows in micro_batches(chosen, lengths, budget_tokens):
            batch = pack([self._inputs[row] for row in rows], self._weights.embedding.device)
            attend = packed_attention(self._weights.spec, batch)
            states = hidden_states(
                self._weights, batch.tokens, batch.positions, attend, last_layer=self._frozen_layers
            )
            trunk.update(zip(rows, states.split(batch.lengths), strict=True))
        return trunk
