"""Peer: ``transformers.generate``, padded static batches of the same concurrency, temperature 1."""

import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from bench.worker import serve
from bench.workload import requests


def main(folder: str) -> None:
    """Serves ``run`` and ``logprobs``."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()

    def run(count: int, ragged: bool, seed: int) -> dict[str, float]:
        work = requests(count, seed=seed, ragged=ragged)
        longest = max(len(prompt) for prompt in work.prompts)
        rows = [[0] * (longest - len(prompt)) + prompt for prompt in work.prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in work.prompts]
        new_tokens = max(work.response_lengths)
        config = GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new_tokens, pad_token_id=0
        )
        config.eos_token_id = None
        torch.manual_seed(seed)
        start = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(
                torch.tensor(rows), attention_mask=torch.tensor(mask), generation_config=config
            )
        seconds = time.perf_counter() - start
        assert output.shape[1] == longest + new_tokens
        return {"seconds": seconds}

    def logprobs(sequences: list[list[int]], prompt_lengths: list[int]) -> list[list[float]]:
        """Plain forward passes, one sequence at a time: the oracle."""
        answers = []
        for tokens, prompt_length in zip(sequences, prompt_lengths, strict=True):
            with torch.inference_mode():
                logits = model(torch.tensor([tokens])).logits[0, prompt_length - 1 : -1]
            chosen = torch.tensor(tokens[prompt_length:])
            answers.append(torch.log_softmax(logits, -1).gather(-1, chosen[:, None])[:, 0].tolist())
        return answers

    commands: dict[str, Any] = {"run": run, "logprobs": logprobs}
    serve(commands)


if __name__ == "__main__":
    main(sys.argv[1])
