"""What log-probs must be when weights changed on the way, computed one position at a time."""

import numpy as np
import torch

from pilothouse.models.decoder import DecoderWeights, hidden_states, logits
from pilothouse.models.logprobs import response_logprobs
from pilothouse.policy.requests import Completed, Version
from pilothouse.tensors import Tokens


class History:
    """Attention of one new position over all kept from before: the plainest cache there is."""

    def __init__(self, weights: DecoderWeights) -> None:
        self.spec = weights.spec
        self.keys: list[list[torch.Tensor]] = [[] for _ in weights.layers]
        self.values: list[list[torch.Tensor]] = [[] for _ in weights.layers]

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        self.keys[layer].append(key[0])
        self.values[layer].append(value[0])
        window = self.spec.layers[layer].window or len(self.keys[layer])
        groups = self.spec.heads // self.spec.kv_heads
        keys = torch.stack(self.keys[layer][-window:]).repeat_interleave(groups, 1)  # [N, H, D]
        values = torch.stack(self.values[layer][-window:]).repeat_interleave(groups, 1)
        shares = (torch.einsum("hd,nhd->hn", query[0], keys) * self.spec.attention_scale).softmax(-1)
        return torch.einsum("hn,nhd->hd", shares, values).reshape(1, -1)


def mixed_oracle(versions: dict[Version, DecoderWeights], prompt: Tokens, completed: Completed) -> np.ndarray:
    """Returns log-probs when every position's keys and values stay those of the version that computed it.

    The prompt and every token but the newest are computed by the version that samples the token after them.
    """
    whole = np.concatenate([prompt, completed.tokens])
    by_position = [completed.spans[0].version] * (len(prompt) - 1)
    for span in completed.spans:
        by_position += [span.version] * (span.end - span.start)
    history = History(next(iter(versions.values())))
    found = []
    for position, version in enumerate(by_position):
        weights = versions[version]
        hidden = hidden_states(
            weights, torch.tensor(whole[position : position + 1]).long(), torch.tensor([position]), history
        )
        if position >= len(prompt) - 1:
            found.append(float(logits(weights, hidden)[0].log_softmax(0)[int(whole[position + 1])]))
    return np.array(found)


def plain_oracle(versions: dict[Version, DecoderWeights], prompt: Tokens, completed: Completed) -> np.ndarray:
    """Returns log-probs when every token is that of a plain forward of the version that sampled it."""
    whole = np.concatenate([prompt, completed.tokens])
    found = np.empty(len(completed.tokens), dtype=np.float32)
    for span in completed.spans:
        plain = response_logprobs(versions[span.version], [whole], [len(prompt)]).numpy()
        found[span.start : span.end] = plain[span.start : span.end]
    return found
