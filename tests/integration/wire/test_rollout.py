import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pilothouse import tensors
from pilothouse.client import PolicyClient, SamplingParams
from pilothouse.config import parse
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Tokens
from pilothouse.trainer.clients import Clients
from pilothouse.trainer.control import RunControl, StopSignals
from pilothouse.trainer.loop import Observer
from pilothouse.trainer.ppo_run import prepared
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir

STOPS = tuple(range(20, 84))
LONGEST = 24


def one_step(config: PpoRunConfig, folder: Path) -> None:
    """What a run does in its first step: publish, generate, score, learn."""
    control = RunControl("run", "ppo", 1)
    with (
        RunDir(folder) as run_dir,
        Clients.connected(config) as clients,
        prepared(config, run_dir, clients, control, StopSignals(control), Observer()) as loop,
    ):
        loop.step()


def decoded(sequences: Any) -> list[Tokens]:
    return tensors.decode_sequences(sequences, name="sequences", vocabulary_size=512, max_rows=100)


async def test_checklist_18_what_is_scored_ends_with_the_first_eos_or_stop_token(
    targets: Mapping[str, str], requests: Any, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    words = ("good", "bad", "great", "boring", "new", "old", "long", "short")
    prompts.write_text("".join(json.dumps({"prompt": f"the film {word} was"}) + "\n" for word in words))
    rollout = {"prompts": [prompts], "prompts_per_step": 16, "max_new_tokens": LONGEST}
    values = {"services": dict(targets), "rollout": rollout | {"stop_token_ids": STOPS}}
    config = parse(PpoRunConfig, values, section="ppo")
    await asyncio.to_thread(one_step, config, tmp_path / "run")

    (asked,), (scored,) = requests.generate, requests.score
    lengths = tensors.decode(scored.tokens.prompt_lengths, name="lengths", dtype=np.int32, ndim=1)
    rows = zip(decoded(scored.tokens.sequences), lengths, strict=True)
    responses = [row[length:].tolist() for row, length in rows]
    seeds = tensors.decode(asked.seeds, name="seeds", dtype=np.int64, ndim=1).tolist()
    with PolicyClient(targets["policy"]) as policy:  # the same draws, if nothing ended them
        sampling = SamplingParams(max_new_tokens=LONGEST, ignore_eos=True)
        endless = await asyncio.to_thread(
            policy.generate, decoded(asked.tokens), sampling, seeds=[int(seed) for seed in seeds]
        )
    ends = {*STOPS, TextCodec.load("tiny").eos_id}
    early = 0
    for response, more in zip(responses, endless, strict=True):
        first = next((at for at, token in enumerate(more.tokens) if int(token) in ends), LONGEST - 1)
        assert response == more.tokens[: first + 1].tolist()
        early += first < LONGEST - 1
    assert early >= 8
