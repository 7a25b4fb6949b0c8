"""AdamW with a schedule, a clipped gradient and a state by parameter name."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from pilothouse.errors import CorruptCheckpointError, NonFiniteLossError
from pilothouse.trainer.ppo.config import OptimiserConfig
from pilothouse.trainer.ppo.ragged import Ranks

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's two moments, by torch's names."""


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Returns the learning rate of a step counted from 0.

    Rises along a line over the warm-up, then falls to 0 just after the last step, along a line or a cosine.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = min((step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1), 1.0)
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1 - done)
        case "cosine":
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Optimiser:
    """One network's trainable parameters and how they move."""

    def __init__(
        self, config: OptimiserConfig, parameters: Mapping[str, Tensor], *, total_steps: int
    ) -> None:
        self.config = config
        self.total_steps = total_steps
        self.parameters = dict(parameters)
        self._adam = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def apply(self, step: int, *, section: str, ranks: Ranks) -> float:
        """Moves the parameters by their gradients and drops the gradients.

        Args:
            step: PPO step, from 0; decides the learning rate.
            section: Of the configuration, whose learning rate decides; for the message.
            ranks: Who shares the batch; gradients are summed over them.

        Returns:
            The global gradient norm before the clip.

        Raises:
            NonFiniteLossError: A gradient is NaN or infinite. The parameters are as they were.
        """
        if ranks.size > 1:
            self._add_up_gradients(ranks)
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            raise NonFiniteLossError(
                f"the gradient norm of {section} is {norm} at step {step}; lower {section}.learning_rate, "
                "check the data and the scores, and resume from the last checkpoint"
            )
        limit = self.config.max_gradient_norm
        if limit is not None and norm > limit:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(self.config, step, self.total_steps)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        return norm

    def _add_up_gradients(self, ranks: Ranks) -> None:
        """Sums gradients over ranks. A rank without a row of the minibatch has none, and adds zeros."""
        parameters = list(self.parameters.values())
        having = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int64)
        learning = [p for p, count in zip(parameters, ranks.sum(having).tolist(), strict=True) if count]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        ranks.add_up([parameter.grad for parameter in learning if parameter.grad is not None])

    def state(self) -> dict[str, Tensor]:
        """Returns ``<moment>.<parameter>`` and scalar ``step.<parameter>`` tensors; empty before a step."""
        state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            for key, tensor in self._adam.state.get(parameter, {}).items():
                state[f"{key}.{name}"] = tensor
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned, bit for bit.

        Raises:
            CorruptCheckpointError: A parameter's moments are missing or have another shape.
        """
        self._adam.state.clear()
        for name, parameter in self.parameters.items():
            if f"step.{name}" not in state:
                continue  # never had a gradient
            try:
                entry = {key: state[f"{key}.{name}"].clone() for key in ("step", *MOMENTS)}
            except KeyError as missing:
                raise CorruptCheckpointError(
                    f"optimiser state has no {missing}; take another checkpoint"
                ) from None
            if any(entry[key].shape != parameter.shape for key in MOMENTS):
                raise CorruptCheckpointError(
                    f"optimiser state of {name} has not shape {tuple(parameter.shape)}"
                )
            self._adam.state[parameter] = entry


def as_parameters(tensors: Mapping[str, Tensor]) -> dict[str, Parameter]:
    """Returns the entries that are trainable parameters."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Parameter) and tensor.requires_grad
    }
