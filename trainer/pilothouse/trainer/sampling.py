"""Samples from a model in this process, for short jobs without services."""

from collections.abc import Sequence

import numpy as np
import torch

from pilothouse.models.load import CausalLM
from pilothouse.tensors import Tokens


@torch.no_grad()
def sample_sequences(
    model: CausalLM,
    prompts: Sequence[Tokens],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seed: int = 0,
    batch_rows: int = 32,
) -> list[Tokens]:
    """Continues every prompt once, from the whole distribution, with transformers' own generation.

    Args:
        model: The policy.
        prompts: B rows int32 [P].
        max_new_tokens: Longest response.
        temperature: Divides the logits.
        seed: Of the draws. The global random state is left as it was.
        batch_rows: Prompts of one call.

    Returns:
        B rows int32 [P + C]: prompt and response, the end-of-sequence token included where it was drawn.
    """
    rows: list[Tokens] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_rows):
            batch = prompts[start : start + batch_rows]
            rows += _sample_batch(model, batch, max_new_tokens, temperature)
    return rows


def _sample_batch(
    model: CausalLM, prompts: Sequence[Tokens], max_new_tokens: int, temperature: float
) -> list[Tokens]:
    codec, width = model.codec, max(len(row) for row in prompts)
    tokens = torch.full((len(prompts), width), codec.pad_id, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for index, row in enumerate(prompts):
        tokens[index, width - len(row) :] = torch.from_numpy(row.astype(np.int64))
        mask[index, width - len(row) :] = 1
    device = model.model.device
    output = model.model.generate(  # type: ignore[operator]
        tokens.to(device),
        attention_mask=mask.to(device),
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=codec.eos_id,
        pad_token_id=codec.pad_id,
    )
    return [
        _until_eos(row, reply, codec.eos_id)
        for row, reply in zip(prompts, output[:, width:].cpu(), strict=True)
    ]


def _until_eos(prompt: Tokens, reply: torch.Tensor, eos_id: int) -> Tokens:
    """Joins prompt and response; what follows the first EOS is padding."""
    ids = reply.numpy().astype(np.int32)
    ends = np.flatnonzero(ids == eos_id)
    return np.concatenate([prompt, ids[: int(ends[0]) + 1] if len(ends) else ids]).astype(np.int32)
