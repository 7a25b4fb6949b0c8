"""What the processes of these tests do: one function per kind of work, which runs on every rank."""

import os
import sys
import time
from typing import Any

import numpy as np
import torch
from tests.trainer.ppo.world import World

from pilothouse.cli.exits import Exit, exit_of
from pilothouse.config import parse
from pilothouse.errors import PilothouseError
from pilothouse.models.load import state_digest
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.ranks import group as group_module
from pilothouse.trainer.ranks.group import Group
from pilothouse.trainer.ranks.helper import help_ppo
from pilothouse.trainer.ranks.leader import Alone, Order, leading
from pilothouse.trainer.ranks.messages import of_batch, of_learner, to_batch, to_learner
from pilothouse.trainer.ranks.place import Place
from pilothouse.trainer.run_config import PpoRunConfig

WORLD = World()
group_module.BUCKET_BYTES = 50_000  # several buckets for the tiny model's gradients, some of one tensor
CONFIG = parse(
    PpoRunConfig,
    {"threads": 1, "ranks": {"timeout_seconds": 100, "start_seconds": 250}},
    section="ppo",
)
EVERYTHING: dict[str, Any] = {
    "epochs": 2, "whiten_rewards": True, "importance": "token", "ema_decay": 0.9, "micro_batch_tokens": 40,
    "kl": {"adaptive": True, "placement": "both"}, "scores": {"normalise": True}, "critic_warmup_steps": 1,
    "pretraining_coefficient": 0.5,
    "policy": {"learning_rate": 1e-4}, "value": {"learning_rate": 1e-4},
}  # fmt: skip


def say(text: str) -> None:
    print(text, flush=True)


def texts_of(step: int) -> list[Any]:
    random = np.random.default_rng(step)
    return [random.integers(3, 500, length).astype(np.int32) for length in (2, 9, 4, 7)[: 4 - step]]


def learn(group: Group) -> None:
    """Steps with batches and settings drawn at random; rank 0 compares with a learner that learns alone."""
    draw = np.random.default_rng(int(os.environ["SEED"]))  # the same on every rank
    for _ in range(int(os.environ["CASES"])):
        rows = int(draw.integers(group.size, 12))
        settings = EVERYTHING | {
            "minibatches": int(draw.integers(1, rows + 1)),  # up to one row each: most ranks have none then
            "trainable_layers": [None, 1][draw.integers(2)],
            "proximal": ["auto", "recompute"][draw.integers(2)],
            "seed": int(draw.integers(1000)),
        }
        if group.index == 0:
            alone, learner = WORLD.learner(**settings), WORLD.learner(group, **settings)
            group.tell(*of_learner(learner))
        else:
            learner = to_learner(group.hear(), group, "cpu")
        for step in range(3):
            if group.index == 0:
                batch, texts = WORLD.batch(learner, rows=rows, seed=int(draw.integers(1000))), texts_of(step)
                group.tell(*of_batch(batch, texts))
                compare(learner.step(batch, texts), alone.step(batch, texts))
                compare_weights(learner, alone)
            else:
                draw.integers(1000)
                learner.step(*to_batch(group.hear()))
        say(f"learned {state_digest(learner.state_dict()['tensors'])} {learner.state_dict()['json']}")


def compare(found: dict[str, float], wanted: dict[str, float]) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted.keys() - {"eps"}:
        noise = 1e-5 if name.startswith("gap/") else 1e-6  # a gap is rounding itself, of numbers near 6
        assert abs(found[name] - wanted[name]) <= noise + 1e-5 * abs(wanted[name]), (name, found, wanted)


def compare_weights(found: PpoLearner, wanted: PpoLearner) -> None:
    theirs = wanted.state_dict()["tensors"]
    for name, tensor in found.state_dict()["tensors"].items():  # weights, moments, average
        torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=1e-5)


def run() -> int:
    """A run of some steps as rank 0 leads it, without services; the others help."""
    if Place.here().index:
        return Exit.OK if help_ppo(CONFIG) else Exit.INTERRUPTED
    stop: list[bool] = []
    with leading(CONFIG, lambda: stop.append(True)) as leader:
        learner = WORLD.learner(leader.ranks, **EVERYTHING)
        leader.share(learner)
        say("shared")
        try:
            steps(leader, learner, stop)
        except PilothouseError:
            say(f"between steps: {learner.updates}")
            raise
        leader.end(Order.STOPPED if stop else Order.FINISHED)
    say("stopped" if stop else "finished")
    return Exit.OK


def steps(leader: Alone, learner: PpoLearner, stop: list[bool]) -> None:
    """Steps until the run is told to end, or as many as the test wants; then what the test wants."""
    last = int(os.environ.get("STEPS", "1000000"))
    while not stop and learner.updates < last:
        batch, texts = WORLD.batch(learner, seed=learner.updates), texts_of(0)
        with leader.learning(batch, texts):
            learner.step(batch, texts)
        say(f"step {learner.updates}")
        if os.environ.get("ROLLOUT") == "long":
            while not stop:  # the others are not needed
                time.sleep(0.05)
    if os.environ.get("GATE"):
        batch = WORLD.batch(learner, reward_version="another")
        with leader.learning(batch, ()):
            learner.step(batch)


def main(work: str) -> int:
    torch.set_num_threads(1)
    try:
        if work == "run":
            return run()
        with Group.joined(Place.here(), CONFIG.ranks, "cpu") as group:
            learn(group)
    except PilothouseError as error:
        say(f"error: {error}")
        return exit_of(error)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
