"""The value model's loss, as it reaches the parameters."""

from typing import Any

import torch

from pilothouse.trainer.ppo.experience import Experience
from pilothouse.trainer.ppo.metrics import Tally


def test_checklist_33_the_gradient_is_that_of_a_tenth_of_the_clipped_loss(world: Any) -> None:
    learner = world.learner(micro_batch_tokens=40)
    batch = world.batch(learner)
    value, rows = learner.value, list(range(len(batch)))
    value.begin(batch, rows)
    values = value.values(rows)
    random = torch.Generator().manual_seed(0)
    old = values.detach() + 0.4 * torch.randn(values.shape, generator=random)
    returns = values.detach() + torch.randn(values.shape, generator=random)

    bounded = old + (values - old).clamp(-0.2, 0.2)
    plain, clipped = (values - returns) ** 2, (bounded - returns) ** 2
    loss = 0.1 * (0.5 * torch.maximum(plain, clipped)).mean()
    parameters = {name: p for name, p in value.parameters.items() if p.requires_grad}
    expected = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    nothing = torch.zeros_like(old)
    experience = Experience(
        offsets=batch.offsets,
        proximal=nothing,
        reference=nothing,
        advantages=nothing,
        returns=returns,
        values=old,
        weights=nothing,
    )
    found = value.accumulate(experience, rows, tokens=float(len(old)), tally=Tally())
    assert 0 < int((clipped > plain).sum()) < len(old), "the clip decides for some tokens and not for others"
    torch.testing.assert_close(found, loss.detach().double(), atol=1e-6, rtol=0)
    for (name, parameter), wanted in zip(parameters.items(), expected, strict=True):
        if wanted is not None:
            torch.testing.assert_close(parameter.grad, wanted, atol=1e-6, rtol=0, msg=name)
    assert sum(wanted is not None for wanted in expected) == len(expected)
