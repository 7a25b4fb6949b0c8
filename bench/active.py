"""How many labels active selection saves, with a simulated crowd and the product's training and selection.

    python -m bench.active FOLDER [SEEDS [even|mixed]]

A pool of prompts, each with four answers of the tiny demo's SFT model; an honest simulated rater with Gumbel
noise (`pilothouse.trainer.demo.loop.crowd`) ranks either random tasks or those on which the reward ensemble
disagrees most. In an even pool answers are samples as they come; in a mixed one, in four of five tasks, they
are chosen so that the crowd likes all four alike and only its noise decides, as where a policy says the same
thing in other words. Both arms begin with the same random tasks and add as many each round; the ensemble is
trained anew from the SFT model. Held-out accuracy is that of its mean score on other prompts, against the
crowd's liking without noise. Nothing but who chooses differs between the arms.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilothouse.config import parse
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import CausalLM, load_causal_lm
from pilothouse.models.text import TINY, TextCodec
from pilothouse.trainer.config import RewardModelConfig, SftConfig
from pilothouse.trainer.data.encode import EncodedRanking, encode_prompts, encode_rankings
from pilothouse.trainer.data.records import read_prompts, read_rankings
from pilothouse.trainer.demo.loop.crowd import Judge, praise
from pilothouse.trainer.demo.material import Sizes, write_material
from pilothouse.trainer.demo.recipe import TINY_DEMO
from pilothouse.trainer.demo.synthetic import make_reviews
from pilothouse.trainer.ensemble import train_ensemble
from pilothouse.trainer.reward_model import held_out_scores
from pilothouse.trainer.sampling import sample_sequences
from pilothouse.trainer.selection import priorities
from pilothouse.trainer.sft import train_sft
from pilothouse.trainer.statistics import mean_interval

ANSWERS, MEMBERS = 4, 4
POOL, HELD_OUT = 600, 300
ALIKE, CANDIDATES = 0.8, 16
"""In a mixed pool: share of tasks whose answers are liked alike, and of how many samples they are chosen."""
FIRST, STEP, LAST = 20, 20, 200
"""Rankings to begin with, added each round, in the end."""
STEPS = 75
"""Of every training, whatever the number of rankings."""
ARMS = ("random", "active")
_NEW_TOKENS, _SEQUENCE_TOKENS = 20, 48
_REWARD_MODEL: dict[str, Any] = {
    "batch_size": 8,
    "members": MEMBERS,
    "normalise_samples": 256,
    "max_sequence_tokens": _SEQUENCE_TOKENS,
    "tensorboard": False,
    "threads": 1,
    "optimiser": {"learning_rate": 1e-3, "schedule": "linear"},
}


@dataclass(frozen=True, slots=True)
class World:
    """What both arms of a seed share."""

    model: Path
    pool: Sequence[dict[str, Any]]
    """Tasks that can be asked, with one noisy ranking each: whoever asks gets the same answer."""
    encoded: Sequence[EncodedRanking]
    """The pool for the model."""
    held_out: Path
    """Rankings of other prompts without noise."""


def make_world(folder: Path, seed: int, mixed: bool) -> World:
    """Trains the SFT model and lets it answer."""
    codec = TextCodec.load(TINY)
    sizes = Sizes(
        demonstrations=1600,
        rankings=1,
        held_out_rankings=1,
        prompts=POOL,
        held_out_prompts=HELD_OUT,
        prompt_tokens=5,
    )
    material = write_material(make_reviews(3200, seed), sizes, codec, folder / "material", seed)
    settings = TINY_DEMO.sft | {
        "model": TINY,
        "output": folder / "sft",
        "seed": seed,
        "data": (material.demonstrations,),
        "max_sequence_tokens": 24,
        "tensorboard": False,
    }
    train_sft(parse(SftConfig, settings, section="sft"))
    start = load_causal_lm(str(folder / "sft" / "model"))
    pool = answered(start, material.prompts, Judge("honest", _generator(seed, 1)), seed, mixed)
    held_out = answered(
        start, material.prompts_held_out, Judge("honest", _generator(seed, 2), noise=0.0), seed + 1
    )
    for row in held_out:  # equal liking is a tie, not the order in which they stand
        values = [praise(answer) for answer in row["responses"]]
        row["ranks"] = [1 + sum(other > value for other in values) for value in values]
    write(folder / "pool.jsonl", pool)
    write(folder / "held-out.jsonl", held_out)
    encoded = encode_rankings(
        read_rankings([folder / "pool.jsonl"]), start.codec, max_tokens=_SEQUENCE_TOKENS
    )
    assert len(encoded.items) == len(pool)
    return World(folder / "sft" / "model", pool, encoded.items, folder / "held-out.jsonl")


def answered(
    start: CausalLM, prompts: Path, judge: Judge, seed: int, mixed: bool = False
) -> list[dict[str, Any]]:
    """Returns a ranking of the model's answers to each prompt."""
    each, chance = CANDIDATES if mixed else ANSWERS, _generator(seed, 4)
    records = read_prompts([prompts])
    rows = [item.tokens for item in encode_prompts(records, start.codec, max_tokens=16).items]
    asked = [row for row in rows for _ in range(each)]
    texts = [
        start.codec.decode([token for token in sequence[len(prompt) :] if token != start.codec.eos_id])
        for prompt, sequence in zip(
            asked, sample_sequences(start, asked, max_new_tokens=_NEW_TOKENS, seed=seed), strict=True
        )
    ]
    found = []
    for number, record in enumerate(records):
        samples = list(dict.fromkeys(filter(str.strip, texts[number * each : (number + 1) * each])))
        answers = alike(samples) if mixed and chance.random() < ALIKE else samples[:ANSWERS]
        if len(answers) == ANSWERS:
            found.append({"prompt": record.content, "responses": answers, "ranks": judge.ranks(answers)})
    return found


def alike(answers: Sequence[str]) -> list[str]:
    """Returns answers that the crowd likes alike; too few where there are no such."""
    liking = [praise(answer) for answer in answers]
    common = max(set(liking), key=liking.count, default=0.0)
    return [answer for answer, value in zip(answers, liking, strict=True) if value == common][:ANSWERS]


def run_arm(world: World, arm: str, folder: Path, seed: int) -> dict[int, float]:
    """Returns the held-out accuracy for each number of rankings."""
    order = _generator(seed, 3).permutation(len(world.pool)).tolist()
    asked, accuracies = order[:FIRST], dict[int, float]()
    while True:
        output = folder / f"{arm}-{len(asked)}"
        write(folder / f"{arm}.jsonl", [world.pool[number] for number in asked])
        settings = _REWARD_MODEL | {
            "model": str(world.model),
            "data": [str(folder / f"{arm}.jsonl")],
            "evaluation_data": [str(world.held_out)],
            "output": str(output),
            "epochs": -(-STEPS * _REWARD_MODEL["batch_size"] // len(asked)),
            "seed": seed,
            "resume": False,
        }
        result = train_ensemble(parse(RewardModelConfig, settings, section="reward_model"))
        assert result.report is not None
        accuracies[len(asked)] = result.report.mean.overall.mean
        if len(asked) == LAST:
            return accuracies
        rest = [number for number in order if number not in set(asked)]
        if arm == "active":
            wanted = priorities(_scores(output, [world.encoded[number] for number in rest]))
            rest = [rest[int(place)] for place in np.argsort(-wanted, kind="stable")]
        asked = [*asked, *rest[:STEP]]


def _scores(output: Path, items: Sequence[EncodedRanking]) -> NDArray[np.float64]:
    """Returns the members' scores, [members, tasks, K]."""
    models = [ScalarModel.load(output / f"member-{number}" / "model") for number in range(1, MEMBERS + 1)]
    return np.array([held_out_scores(model, items, 4096) for model in models], dtype=np.float64)


def labels_to_reach(accuracies: dict[int, float], goal: float) -> float:
    """Returns the rankings at which the accuracy first is the goal, between rounds by a straight line."""
    before: tuple[int, float] | None = None
    for labels, accuracy in accuracies.items():
        if accuracy >= goal:
            if before is None or accuracy == before[1]:
                return labels
            return before[0] + (labels - before[0]) * (goal - before[1]) / (accuracy - before[1])
        before = labels, accuracy
    return float("nan")


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _generator(seed: int, part: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox([seed, part]))


def main(folder: str, seeds: str = "5", pool: str = "even") -> None:
    """Runs the arms in turn and prints accuracies for each number of rankings."""
    found: dict[str, list[dict[int, float]]] = {arm: [] for arm in ARMS}
    for seed in range(int(seeds)):
        into = Path(folder) / str(seed)
        into.mkdir(parents=True)
        started, world = time.perf_counter(), make_world(into, seed, pool == "mixed")
        for arm in ARMS:
            found[arm].append(run_arm(world, arm, into, seed))
        print(f"seed {seed}, {len(world.pool)} tasks, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    for labels in found["random"][0]:
        told = [f"{arm} {statistics.mean(run[labels] for run in found[arm]):.1%}" for arm in ARMS]
        pairs = zip(found["active"], found["random"], strict=True)
        gain = mean_interval([active[labels] - chance[labels] for active, chance in pairs])
        told.append(f"gain {gain.mean:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}]")
        print(f"{labels:4} rankings", *told, sep="   ")
    chance, active = (
        {n: statistics.mean(run[n] for run in found[arm]) for n in found[arm][0]} for arm in ARMS
    )
    best = max(chance, key=lambda labels: chance[labels])
    needed = labels_to_reach(active, chance[best])
    print(
        f"{chance[best]:.1%}, the best of random tasks, with {best}: active selection has it with "
        f"{needed:.0f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
