import numpy as np
import torch

from pilothouse.models.load import load_causal_lm
from pilothouse.trainer.sampling import sample_sequences


def test_samples_start_with_their_prompt_and_end_with_eos_or_the_limit() -> None:
    model = load_causal_lm("tiny")
    prompts = [np.array(row, np.int32) for row in ([5], [7, 8, 9], [4, 4])]
    rows = sample_sequences(model, prompts, max_new_tokens=6, seed=1)
    for prompt, row in zip(prompts, rows, strict=True):
        np.testing.assert_array_equal(row[: len(prompt)], prompt)
        response = row[len(prompt) :]
        assert 1 <= len(response) <= 6
        assert model.codec.eos_id not in response[:-1]
        assert len(response) == 6 or response[-1] == model.codec.eos_id


def test_the_same_seed_draws_the_same_and_leaves_the_global_state_alone() -> None:
    model = load_causal_lm("tiny")
    prompts = [np.array([5, 6], np.int32)] * 4
    before = torch.get_rng_state()
    one, two, other = (sample_sequences(model, prompts, max_new_tokens=8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_prompts_length_does_not_change_a_neighbours_distribution() -> None:
    model = load_causal_lm("tiny")
    short = np.array([5, 6], np.int32)
    alone = sample_sequences(model, [short] * 2, max_new_tokens=1, temperature=1e-4, seed=0)
    mixed = sample_sequences(
        model, [short, np.arange(3, 20, dtype=np.int32)], max_new_tokens=1, temperature=1e-4, seed=0
    )
    assert alone[0][-1] == mixed[0][-1]
