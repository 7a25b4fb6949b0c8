"""Peer: RewardTrainer of TRL 1.12 on the files of `bench.preferences`, one epoch, fp32, on the CPU.

python -m bench.peers.trl_reward MODEL DATA OUTPUT [MAX_TOKENS BATCH LEARNING_RATE]
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer


def conversations(file: Path) -> Dataset:
    """Returns the pairs as conversations, so that both sides use the model's chat template."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list(
        [{side: _messages(row[side]) for side in ("chosen", "rejected")} for row in rows]
    )


def _messages(dialogue: str) -> list[dict[str, str]]:
    _, question, answer = re.split(r"\n\n(?:Human|Assistant): ", dialogue)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def main(
    folder: str, data: str, output: str, most: str = "192", batch: str = "8", rate: str = "2e-5"
) -> None:
    """Trains, evaluates on the held-out file and prints seconds and accuracy."""
    start = time.perf_counter()
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    settings: dict[str, Any] = {
        "output_dir": output,
        "num_train_epochs": 1,
        "per_device_train_batch_size": int(batch),
        "per_device_eval_batch_size": int(batch),
        "learning_rate": float(rate),
        "lr_scheduler_type": "cosine",
        "max_length": int(most),
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1000,
        "dataset_num_proc": None,
        "seed": 0,
    }
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**settings),
        processing_class=tokenizer,
        train_dataset=conversations(Path(data) / "train.jsonl"),
        eval_dataset=conversations(Path(data) / "held-out.jsonl"),
    )
    began = time.perf_counter()
    trainer.train()
    steps = trainer.state.global_step
    told = {"steps": steps, "step_seconds": (time.perf_counter() - began) / steps}
    told |= {"accuracy": trainer.evaluate()["eval_accuracy"], "pairs": len(trainer.eval_dataset)}
    print(json.dumps({"seconds": time.perf_counter() - start, **told}))


if __name__ == "__main__":
    main(*sys.argv[1:])
