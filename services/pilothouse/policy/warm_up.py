"""The first pass of a fresh engine: what happens only once must not happen to the first caller."""

from collections.abc import Generator

import numpy as np

from pilothouse.errors import GenerationFailedError
from pilothouse.policy.requests import Prompt, Request, Sequence
from pilothouse.policy.runner import ModelRunner
from pilothouse.policy.sampling import Sampling, WaitingTimes

_PROMPT_TOKENS = 8


def warm_up(runner: ModelRunner) -> Generator[None, None, None]:
    """Computes a prompt and two tokens after it in the first slot; in pieces, on the engine's thread.

    Only while nothing runs. It is no request, so that no figure counts it.

    Raises:
        GenerationFailedError: The model's logits are not finite.
    """
    prompt = np.zeros(min(_PROMPT_TOKENS, runner.positions - 1), np.int32)
    request = Request(prompts=(prompt,), seeds=(0,), sampling=Sampling(), listener=lambda update: None)
    sequence = Sequence(
        request=request,
        prompt=Prompt(prompt, waiting=0),
        prompt_index=0,
        sample_index=0,
        sampling=request.sampling,
        waiting_times=WaitingTimes(0, 0),
        stop=None,
        slot=0,
    )
    drawn = runner.start([sequence])
    yield
    if drawn.finite[0]:
        sequence.append(drawn.token_ids[0], drawn.logprobs[0], runner.version)
        drawn = runner.decode([sequence])
    if not drawn.finite[0]:
        raise GenerationFailedError(
            "the model's logits are not finite; check its weights, or serve it in float32"
        )
