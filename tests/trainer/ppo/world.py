"""A small world to learn in: the tiny model, a value model, and rollouts drawn from them."""

from typing import Any

import numpy as np
import torch

from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.models.logprobs import response_logprobs
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.ragged import Ranks
from pilothouse.trainer.ppo.step import PpoLearner

FAST = {"learning_rate": 1e-3, "schedule": "constant"}


class World:
    """Builds learners that start from the same weights, and batches."""

    def learner(self, ranks: Ranks | None = None, **settings: Any) -> PpoLearner:
        defaults = {"policy": FAST, "value": FAST, "epochs": 1, "importance": "off"}
        config = PpoConfig.model_validate(defaults | settings)
        policy = load_causal_lm("tiny")
        value = ScalarModel.from_causal_lm(policy.model, seed=1)
        return PpoLearner(policy, value, config, ranks=ranks)

    def batch(
        self,
        learner: PpoLearner,
        *,
        rows: int = 8,
        seed: int = 0,
        reference_noise: float = 0.1,
        **changes: Any,
    ) -> RolloutBatch:
        """A rollout of ragged rows whose behaviour log-probs are the learner's own."""
        rng = np.random.default_rng(seed)
        prompts = rng.integers(1, 9, rows).astype(np.int32)
        responses = rng.integers(1, 13, rows).astype(np.int32)
        sequences = [
            rng.integers(3, 500, p + c).astype(np.int32) for p, c in zip(prompts, responses, strict=True)
        ]
        tokens = int(responses.sum())
        with torch.no_grad():
            temperature = learner.config.temperature
            logprobs = response_logprobs(
                learner.policy.model.weights, sequences, prompts.tolist(), temperature=temperature
            ).numpy()
        values: dict[str, Any] = {
            "sequences": sequences,
            "prompt_lengths": prompts,
            "response_lengths": responses,
            "behaviour_logprobs": logprobs,
            "reference_logprobs": logprobs + rng.normal(0, reference_noise, tokens).astype(np.float32),
            "scores": rng.normal(size=rows).astype(np.float32),
            "finished": np.ones(rows, dtype=np.bool_),
            "epochs": np.full(tokens, learner.epoch),
            "versions": np.full(tokens, learner.updates),
            "reward_version": "reward-a",
            "reference_digest": "reference-a",
            "sample_ids": [f"sample-{row}" for row in range(rows)],
        }
        return RolloutBatch(**(values | changes))
