"""The policy that learns: log-probs of a batch, gradients of the clipped loss, optimiser, moving average."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pilothouse.models.load import Network, parameters_by_name
from pilothouse.models.logprobs import chosen_logprobs, response_logprobs
from pilothouse.tensors import Tokens
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.experience import Experience, in_batch_order
from pilothouse.trainer.ppo.kl import kl_estimate
from pilothouse.trainer.ppo.losses import PolicyTerms, policy_terms
from pilothouse.trainer.ppo.metrics import Tally
from pilothouse.trainer.ppo.minibatches import micro_batches
from pilothouse.trainer.ppo.network import ResponseStates
from pilothouse.trainer.ppo.optimiser import Optimiser
from pilothouse.trainer.ppo.ragged import Ranks
from pilothouse.trainer.ppo.trainable import freeze_lower_layers


@dataclass(frozen=True, slots=True)
class PolicyPass:
    """What one minibatch's forward passes found, before the optimiser moved."""

    places: Tensor
    """int64 [R'], where in the flat tensors the minibatch's tokens are."""
    logprobs: Tensor
    """[R'] nats, current policy."""
    loss: Tensor
    """Scalar: this rank's part of the loss."""


class Policy:
    """A causal LM in training. Dropout is off: the decoder has none."""

    def __init__(self, model: Network, config: PpoConfig) -> None:
        self.model = model
        self._config = config
        self._frozen = freeze_lower_layers(model.model, len(model.spec.layers), config.trainable_layers)
        trainable = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self.optimiser = Optimiser(config.policy, trainable, total_steps=config.total_steps)
        self.average = {name: p.detach().clone() for name, p in trainable.items()} if config.ema_decay else {}
        """Exponential moving average of the trainable parameters; empty without ``ema_decay``."""

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every parameter by transformers' name, tied ones once."""
        return parameters_by_name(self.model.model)

    @property
    def device(self) -> torch.device:
        """Where the policy lives."""
        return self.model.weights.embedding.device

    def begin(self, batch: RolloutBatch, share: Collection[int]) -> None:
        """Takes a new batch, of which this rank computes the rows ``share``; once, what is frozen."""
        budget = self._config.micro_batch_tokens
        self._batch, self._share = batch, share
        self._states = ResponseStates(
            self.model.weights, batch, share, frozen_layers=self._frozen, budget_tokens=budget
        )
        self._targets = [
            row[prompt:] for row, prompt in zip(batch.sequences, batch.prompt_lengths.tolist(), strict=True)
        ]
        self._lengths = [len(row) for row in batch.sequences]

    def logprobs(self, rows: Sequence[int], *, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Returns [R'] nats of the responses ``rows`` and, if asked, entropies [R'] of their positions."""
        targets = torch.from_numpy(np.concatenate([self._targets[row] for row in rows]).astype(np.int64))
        states = self._states(rows)
        return chosen_logprobs(
            self.model.weights,
            states,
            targets.to(states.device),
            temperature=self._config.temperature,
            entropy=entropy,
        )

    @torch.no_grad()
    def all_logprobs(self, ranks: Ranks) -> Tensor:
        """Returns [R] nats of the whole batch, in its order; every rank computes its share."""
        parts = [(rows, self.logprobs(rows)[0]) for rows in self._micro_batches(self._share)]
        return in_batch_order(parts, self._batch, ranks)

    def accumulate(
        self, experience: Experience, rows: Sequence[int], *, tokens: float, beta: float, tally: Tally
    ) -> PolicyPass:
        """Adds a minibatch's gradients to the parameters'.

        Args:
            experience: The batch.
            rows: This rank's part of the minibatch; may be none.
            tokens: Response tokens of the minibatch over all ranks; every loss is a sum divided by this.
            beta: Price of KL in the loss; 0 for none.
            tally: Takes in the statistics.
        """
        config, total = self._config, torch.zeros((), dtype=torch.float64)
        places = [experience.tokens(())]
        current = [experience.proximal[:0]]
        for micro in self._micro_batches(rows):
            at = experience.tokens(micro)
            logprobs, entropies = self.logprobs(micro, entropy=True)
            terms = policy_terms(
                logprobs,
                experience.proximal[at],
                experience.advantages[at],
                experience.weights[at],
                config.clip_range,
            )
            losses = terms.losses
            if beta:
                losses = losses + beta * kl_estimate(
                    logprobs, experience.reference[at], config.kl.loss_estimator
                )
            loss = losses.sum() / tokens
            loss.backward()
            total += loss.detach().cpu()
            _note(tally, terms, entropies)
            places.append(at)
            current.append(logprobs.detach())
        return PolicyPass(torch.cat(places), torch.cat(current), total)

    def accumulate_text(self, sequences: Sequence[Tokens], *, tokens: float, tally: Tally) -> None:
        """Adds the gradients of the language-model loss on pre-training text (InstructGPT, equation 2).

        Args:
            sequences: This rank's, each int32 [length >= 2]; may be none.
            tokens: Predicted tokens of the minibatch's text over all ranks.
            tally: Takes in the loss.
        """
        tally.add("loss/pretraining_avg", torch.empty(0))  # also where this rank has no text
        lengths = [len(row) for row in sequences]
        for micro in micro_batches(range(len(sequences)), lengths, self._config.micro_batch_tokens):
            logprobs = response_logprobs(
                self.model.weights, [sequences[row] for row in micro], [1] * len(micro)
            )
            (-self._config.pretraining_coefficient * logprobs.sum() / tokens).backward()
            tally.add("loss/pretraining_avg", -logprobs.detach())

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the moving average towards the parameters."""
        decay = self._config.ema_decay
        if decay is not None:
            for name, mean in self.average.items():
                mean.lerp_(self.optimiser.parameters[name], 1 - decay)

    def _micro_batches(self, rows: Iterable[int]) -> Iterator[list[int]]:
        yield from micro_batches(rows, self._lengths, self._config.micro_batch_tokens)


def _note(tally: Tally, terms: PolicyTerms, entropies: Tensor | None) -> None:
    tally.add("loss/policy_avg", terms.losses.detach())
    tally.add("policy/clipfrac_avg", terms.clipped)
    tally.add("policy/approxkl_avg", 0.5 * terms.squared_steps)
    tally.add("val/ratio", terms.ratios)
    tally.add("val/ratio_squared", terms.ratios.square())
    if entropies is not None:
        tally.add("policy/entropy_avg", entropies.detach())
