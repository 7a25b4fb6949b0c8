"""Our side of generation and of the weight push: a policy service as its users meet it, over gRPC."""

import asyncio
import itertools
import statistics
import sys
import threading
import time
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from bench.worker import serve
from bench.workload import Workload, requests
from pilothouse.client import AsyncPolicyClient, PolicyClient, SamplingParams, TokenEvent, WeightsClient
from pilothouse.client.types import Completion
from pilothouse.local import LocalStack


async def complete(target: str, work: Workload, seed: int) -> list[Completion]:
    """Sends every request as a call of its own, all at once; returns their completions in order."""
    async with AsyncPolicyClient(target) as policy:
        calls = [
            policy.generate(
                [prompt], SamplingParams(max_new_tokens=length, ignore_eos=True), seeds=[seed * 1000 + index]
            )
            for index, (prompt, length) in enumerate(zip(work.prompts, work.response_lengths, strict=True))
        ]
        return [completions[0] for completions in await asyncio.gather(*calls)]


def main(folder: str) -> None:
    """Serves ``run``, ``sequences``, ``push`` and ``push_while_generating``."""
    tensors = load_file(f"{folder}/model.safetensors")
    versions = itertools.count(1)
    overrides = [f"policy.model={folder}", "policy.threads=2", "policy.max_sequence_tokens=1024"]
    last: dict[str, Any] = {}

    with LocalStack(overrides=overrides, services=["policy"]) as stack:
        target = stack.targets["policy"]

        def run(count: int, ragged: bool, seed: int) -> dict[str, float]:
            work = requests(count, seed=seed, ragged=ragged)
            start = time.perf_counter()
            completions = asyncio.run(complete(target, work, seed))
            seconds = time.perf_counter() - start
            assert [len(item.tokens) for item in completions] == work.response_lengths
            last.update(work=work, completions=completions)
            return {"seconds": seconds}

        def sequences() -> dict[str, Any]:
            """The last run's whole sequences and behaviour log-probs, for the parity check."""
            pairs = list(zip(last["work"].prompts, last["completions"], strict=True))
            return {
                "sequences": [[*prompt, *item.tokens.tolist()] for prompt, item in pairs],
                "prompt_lengths": [len(prompt) for prompt, _ in pairs],
                "logprobs": [item.logprobs.tolist() for _, item in pairs],
            }

        def push() -> dict[str, float]:
            """Pushes the whole model under the next version; the bytes differ from those before it."""
            tensors["model.norm.weight"] = np.nextafter(tensors["model.norm.weight"], np.float32(np.inf))
            with WeightsClient(stack.targets["weights"]) as weights:
                start = time.perf_counter()
                result = weights.push(tensors, run="bench", epoch=1, version=next(versions))
                seconds = time.perf_counter() - start
            return {
                "seconds": seconds,
                "bytes": sum(tensor.nbytes for tensor in tensors.values()),
                "swap_seconds": result.swap_seconds,
            }

        def push_while_generating(count: int) -> dict[str, float]:
            """Token gaps of ``count`` running generations without and with a push in the middle."""
            arrivals: list[list[float]] = [[] for _ in range(count)]
            work = requests(count, seed=9, ragged=False, prompt=32, response=96)
            pushes: list[dict[str, float]] = []

            def watch() -> None:
                with PolicyClient(target) as policy:
                    sampling = SamplingParams(max_new_tokens=96, ignore_eos=True)
                    for event in policy.stream(
                        work.prompts, sampling, seeds=list(range(count)), stream_tokens=True
                    ):
                        if isinstance(event, TokenEvent):
                            arrivals[event.prompt_index] += [time.perf_counter()] * len(event.tokens)

            watcher = threading.Thread(target=watch)
            watcher.start()
            while min(map(len, arrivals)) < 20:
                time.sleep(0.01)
            begin = time.perf_counter()
            pushes.append(push())
            end = time.perf_counter()
            watcher.join()
            gaps = [
                (later, later - earlier) for row in arrivals for earlier, later in itertools.pairwise(row)
            ]
            calm = [gap for at, gap in gaps if at < begin or at > end + 1]
            during = [gap for at, gap in gaps if begin <= at <= end + 1]
            return {
                "median_step_seconds": statistics.median(calm),
                "longest_gap_seconds": max(during),
                "tokens": sum(map(len, arrivals)),
                **{f"push_{name}": value for name, value in pushes[0].items()},
            }

        serve(
            {"run": run, "sequences": sequences, "push": push, "push_while_generating": push_while_generating}
        )


if __name__ == "__main__":
    main(sys.argv[1])
