"""The value model that learns: a network of its own, started from the reward model."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import parameters_by_name
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.experience import Experience, in_batch_order
from pilothouse.trainer.ppo.losses import value_terms
from pilothouse.trainer.ppo.metrics import Tally
from pilothouse.trainer.ppo.minibatches import micro_batches
from pilothouse.trainer.ppo.network import ResponseStates
from pilothouse.trainer.ppo.optimiser import Optimiser
from pilothouse.trainer.ppo.ragged import Ranks
from pilothouse.trainer.ppo.trainable import freeze_lower_layers


class Value:
    """A scalar model in training. Its values are on the scale of the scores: gain * raw + bias."""

    def __init__(self, model: ScalarModel, config: PpoConfig) -> None:
        self.model = model
        self._config = config
        self._frozen = freeze_lower_layers(model.model, len(model.spec.layers), config.trainable_layers)
        trainable = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self.optimiser = Optimiser(config.value, trainable, total_steps=config.total_steps)
        self._held: tuple[list[int], Tensor] | None = None

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every parameter by transformers' name."""
        return parameters_by_name(self.model.model)

    def begin(self, batch: RolloutBatch, share: Collection[int]) -> None:
        """Takes a new batch, of which this rank computes the rows ``share``; once, what is frozen."""
        budget = self._config.micro_batch_tokens
        self._batch, self._share = batch, share
        self._lengths = [len(row) for row in batch.sequences]
        self._states = ResponseStates(
            self.model.weights, batch, share, frozen_layers=self._frozen, budget_tokens=budget
        )

    def values(self, rows: Sequence[int]) -> Tensor:
        """Returns V [R'] of the responses ``rows``, each read at the token before."""
        return self.model.scalars(self._states(rows)) * self.model.gain + self.model.bias

    def all_values(self, ranks: Ranks) -> Tensor:
        """Returns [R], the values of the whole batch in its order, without gradient.

        Every rank computes its share. Where that is one micro-batch that is learned from once, this forward
        pass is also that of the update.
        """
        micro = micro_batches(self._share, self._lengths, self._config.micro_batch_tokens)
        # The value update comes first in a step: nothing moves these weights in between.
        hold = len(micro) == self._config.epochs == self._config.minibatches == 1
        with torch.set_grad_enabled(hold):
            parts = [(rows, self.values(rows)) for rows in micro]
        self._held = parts[0] if hold else None
        return in_batch_order([(rows, values.detach()) for rows, values in parts], self._batch, ranks)

    def accumulate(
        self, experience: Experience, rows: Sequence[int], *, tokens: float, tally: Tally
    ) -> Tensor:
        """Adds a minibatch's gradients to the parameters'.

        Args:
            experience: The batch.
            rows: This rank's part of the minibatch; may be none.
            tokens: Response tokens of the minibatch over all ranks; the loss is a sum divided by this.
            tally: Takes in the statistics.

        Returns:
            The loss, a scalar: this rank's part.
        """
        total = torch.zeros((), dtype=torch.float64)
        for micro in micro_batches(rows, self._lengths, self._config.micro_batch_tokens):
            at = experience.tokens(micro)
            values = self._held_values(micro)
            terms = value_terms(
                self.values(micro) if values is None else values,
                experience.values[at],
                experience.returns[at],
                self._config.value_clip_range,
            )
            loss = self._config.value_loss_weight * terms.losses.sum() / tokens
            loss.backward()
            total += loss.detach().cpu()
            tally.add("loss/value_avg", terms.losses.detach())
            tally.add("val/clipfrac_avg", terms.clipped)
        return total

    def _held_values(self, rows: list[int]) -> Tensor | None:
        held, self._held = self._held, None
        return held[1] if held is not None and held[0] == rows else None
