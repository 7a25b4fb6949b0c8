"""Our side of the PPO update: three services as child processes, the learner here, the push at the end."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bench.ours.policy import complete
from bench.worker import serve
from bench.workload import requests
from pilothouse.client import PolicyClient, ReferenceClient, RewardClient, WeightsClient
from pilothouse.client.addresses import Fixed
from pilothouse.local import LocalStack
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.models.memory import keep_freed_memory
from pilothouse.trainer.data.encode import EncodedPrompt
from pilothouse.trainer.patience import Patience
from pilothouse.trainer.ppo.config import PpoConfig
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.prompts import Draw
from pilothouse.trainer.publisher import Publisher
from pilothouse.trainer.push_all import WeightReplicas
from pilothouse.trainer.replicas import Replica, Replicas
from pilothouse.trainer.run_config import PublishConfig
from pilothouse.trainer.samples import Answer, Sample, as_batch
from pilothouse.trainer.spread import PolicyReplicas
from pilothouse.trainer.trainer_lease import NoLease


def publisher_of(learner: PpoLearner, policy: PolicyClient, weights: WeightsClient) -> Publisher:
    """Returns what pushes the learner's weights; a lost service is waited for in silence."""
    replicas = Replicas(Fixed(["policy"]), lambda address: Replica(address, weights, policy))
    lease = NoLease()
    patience = Patience(
        {"policy": policy, "weights": weights, "lease": lease},
        wait_seconds=60,
        on_wait=lambda service, seconds_left: None,
    )
    return Publisher(
        learner,
        weights=WeightReplicas(replicas, "all"),
        policy=PolicyReplicas(replicas, calls=1),
        patience=patience,
        lease=lease,
        probes=[],
        run="bench",
        config=PublishConfig(),
    )


def main(folder: str, profile: str, count: str, prompt: str, response: str) -> None:
    """Serves ``run``: one PPO update, from prompts to the new weights serving."""
    keep_freed_memory()  # as a training run does
    torch.set_num_threads(2)
    work = requests(
        int(count), seed=0, ragged=profile == "ragged", prompt=int(prompt), response=int(response)
    )
    policy = load_causal_lm(folder)
    with tempfile.TemporaryDirectory() as scratch:
        reward_folder = Path(scratch) / "reward"
        ScalarModel.from_causal_lm(policy.model, seed=0).save(reward_folder, policy.codec)
        overrides = [
            f"policy.model={folder}",
            "policy.max_running=16",
            "policy.max_sequence_tokens=512",
            "policy.keep_previous=false",
            f"reference.model={folder}",
            "reward.backend=torch",
            f"reward.model={reward_folder}",
            *(f"{service}.threads=2" for service in ("policy", "reward", "reference")),
        ]
        config = PpoConfig(
            epochs=1, minibatches=1, policy={"learning_rate": 1e-6}, value={"learning_rate": 1e-6}
        )
        learner = PpoLearner(policy, ScalarModel.load(reward_folder), config, epoch=1)
        draws = [
            Draw(index, EncodedPrompt(str(index), np.array(tokens, np.int32)), index)
            for index, tokens in enumerate(work.prompts)
        ]
        with (
            LocalStack(overrides=overrides) as stack,
            PolicyClient(stack.targets["policy"]) as policies,
            WeightsClient(stack.targets["weights"]) as weights,
            RewardClient(stack.targets["reward"]) as reward,
            ReferenceClient(stack.targets["reference"]) as reference,
        ):
            publisher = publisher_of(learner, policies, weights)
            publisher.publish()

            def run() -> dict[str, float]:
                start = time.perf_counter()
                completions = asyncio.run(complete(stack.targets["policy"], work, seed=learner.updates))
                generated = time.perf_counter()
                found = [Answer(d.sample_ids(1)[0], d, c) for d, c in zip(draws, completions, strict=True)]
                sequences, lengths = [a.sequence for a in found], [len(row) for row in work.prompts]
                scores = reward.score(sequences=sequences, prompt_lengths=lengths)
                logprobs = reference.logprobs(sequences, lengths)
                judged = time.perf_counter()
                samples = [
                    Sample(answer, float(score), scores.reward_version, row, logprobs.reference_digest)
                    for answer, score, row in zip(found, scores.values, logprobs.rows, strict=True)
                ]
                metrics = learner.step(as_batch(samples))
                learned = time.perf_counter()
                publisher.publish()
                end = time.perf_counter()
                return {
                    "seconds": end - start,
                    "generate_seconds": generated - start,
                    "judge_seconds": judged - generated,
                    "learn_seconds": learned - judged,
                    "push_seconds": end - learned,
                    "gap_max_nats": metrics["gap/logprob_max"],
                }

            serve({"run": run})


if __name__ == "__main__":
    main(*sys.argv[1:])
