"""Peer: PPOTrainer of TRL 1.12, four networks of the same architecture, one epoch, one mini-batch, fp32.

The trainer's own loop runs in a thread and is held before every update, so that both sides take turns.
A logits processor forces ragged lengths: a row samples its stop token when its length is reached.
"""

import sys
import threading
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

from bench.worker import serve
from bench.workload import requests

STOP_TOKEN = 2
PAD_TOKEN = 0


class ForcedLengths(LogitsProcessor):  # type: ignore[misc]
    """Bans the stop token before a row's length is reached and forces it there."""

    def __init__(self, lengths: list[int], prompt: int) -> None:
        self._lengths = torch.tensor(lengths)
        self._prompt = prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the logits [B, V] with the stop token banned or forced."""
        ending = self._lengths <= input_ids.shape[1] - self._prompt + 1
        scores = scores.clone()
        scores[~ending, STOP_TOKEN] = -torch.inf
        scores[ending] = -torch.inf
        scores[ending, STOP_TOKEN] = 0.0
        return scores


class Turns(TrainerCallback):  # type: ignore[misc]
    """Holds the trainer's loop between updates."""

    def __init__(self) -> None:
        self.begin = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Waits for the first turn."""
        self.begin.acquire()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Ends a turn and waits for the next."""
        self.ended.release()
        self.begin.acquire()


def main(folder: str, profile: str, count: str, prompt: str, response: str) -> None:
    """Serves ``run``: one PPO update."""
    ragged = profile == "ragged"
    work = requests(int(count), seed=0, ragged=ragged, prompt=int(prompt), response=int(response))
    longest = max(work.response_lengths)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(PAD_TOKEN)
    dtype = torch.float32
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    policy.generation_config.eos_token_id = None
    if ragged:
        lengths = ForcedLengths(work.response_lengths, max(map(len, work.prompts)))
        generate = policy.generate
        policy.generate = lambda *a, **k: generate(*a, logits_processor=LogitsProcessorList([lengths]), **k)
    scalars = [
        AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=dtype, pad_token_id=PAD_TOKEN
        )
        for _ in range(2)
    ]
    config = PPOConfig(
        output_dir="runs/bench-trl",
        per_device_train_batch_size=int(count),
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=1,
        total_episodes=int(count) * 1000,
        local_rollout_forward_batch_size=int(count),
        response_length=longest,
        stop_token_id=STOP_TOKEN if ragged else None,
        temperature=1.0,
        gradient_checkpointing=False,
        num_sample_generations=0,
        bf16=False,
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        learning_rate=1e-6,
        seed=0,
    )
    turns = Turns()
    # The sampler shuffles; one dataset row per request keeps every batch the same set of requests.
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(folder, dtype=dtype),
        reward_model=scalars[0],
        value_model=scalars[1],
        train_dataset=Dataset.from_dict({"input_ids": work.prompts}),
        eval_dataset=Dataset.from_dict({"input_ids": work.prompts}),
        callbacks=[turns],
    )
    failure: list[BaseException] = []

    def train() -> None:
        try:
            trainer.train()
        except BaseException as error:
            failure.append(error)
            turns.ended.release()

    loop = threading.Thread(target=train, daemon=True)

    def run() -> dict[str, float]:
        start = time.perf_counter()
        if loop.ident is None:  # not earlier: it prints, and the answers go over standard output
            loop.start()
        turns.begin.release()
        turns.ended.acquire()
        if failure:
            raise failure[0]
        return {"seconds": time.perf_counter() - start}

    serve({"run": run})


if __name__ == "__main__":
    main(*sys.argv[1:])
