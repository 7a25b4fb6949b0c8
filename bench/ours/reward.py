"""Our side of reward models: `pilothouse train reward-model` on the preference files of `bench.preferences`.

python -m bench.ours.reward MODEL DATA OUTPUT [MAX_TOKENS BATCH LEARNING_RATE]
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise

from pilothouse.config import parse
from pilothouse.trainer.config import RewardModelConfig
from pilothouse.trainer.reward_model import train_reward_model


def main(
    folder: str, data: str, output: str, most: str = "192", batch: str = "8", rate: str = "2e-5"
) -> None:
    """Trains, evaluates on the held-out file and prints seconds and accuracy."""
    settings = {
        "model": folder,
        "data": [f"{data}/train.jsonl"],
        "evaluation_data": [f"{data}/held-out.jsonl"],
        "output": output,
        "resume": False,
        "batch_size": int(batch),
        "max_sequence_tokens": int(most),
        "micro_batch_tokens": 2048,
        "normalise_samples": 64,
        "checkpoint_every_steps": 100_000,
        "tensorboard": False,
        "threads": 2,
        "optimiser": {"learning_rate": float(rate), "schedule": "cosine"},
    }
    config = parse(RewardModelConfig, settings, section="reward_model")
    start, times = time.perf_counter(), list[float]()

    def note(done: int, total: int, metrics: Mapping[str, float]) -> None:
        times.append(time.perf_counter())

    result = train_reward_model(config, note)
    assert result.accuracy is not None
    told = {"seconds": time.perf_counter() - start, "steps": len(times), "pairs": result.accuracy.pairs}
    # The last step's time has the evaluation.
    told["step_seconds"] = statistics.median(later - earlier for earlier, later in pairwise(times[:-1]))
    print(json.dumps(told | {"accuracy": asdict(result.accuracy.overall)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
