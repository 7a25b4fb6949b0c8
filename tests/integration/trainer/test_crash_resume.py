"""kill -9 of anything, at any time: the same weights in the end, and no sample lost or used twice."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.exits import Exit
from pilothouse.trainer.ledger_report import verify_ledger

pytestmark = pytest.mark.heavy

TOTAL_STEPS = 8
Learned = Callable[[Path], dict[str, str]]
Kill = Callable[[str], None]
Start = Callable[..., Any]


def metrics(folder: Path) -> list[dict[str, float]]:
    """All rows without what is measured by the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not name.startswith("time/") and name != "eps"}
        for row in rows
    ]


def assert_same_run(one: Any, other: Any, learned: Learned) -> None:
    assert learned(one.folder) == learned(other.folder)
    assert metrics(one.folder) == metrics(other.folder)
    for trainer in (one, other):
        report = verify_ledger(trainer.ledger())
        assert report.ok, report.problems
        assert (report.steps, report.trained, report.in_flight) == (TOTAL_STEPS, TOTAL_STEPS * 8, 0)
        assert report.repeated_different == 0


def test_killed_services_and_a_killed_trainer_leave_no_trace_in_the_weights(
    unbroken: Any, start: Start, kill_service: Kill, learned: Learned
) -> None:
    broken = start("broken")
    for step, service in ((1, "policy"), (2, "reward"), (3, "reference")):
        broken.wait_for_step(step)
        kill_service(service)
    broken.wait_for_step(4)
    broken.kill()
    resumed = start("broken")
    output = resumed.finish()
    assert "resumed" in output
    assert '"step": 3' in output
    assert_same_run(unbroken, resumed, learned)
    assert verify_ledger(resumed.ledger()).rewinds == 1


def test_interrupting_saves_a_checkpoint_that_goes_on_to_the_same_weights(
    unbroken: Any, start: Start, learned: Learned
) -> None:
    interrupted = start("interrupted")
    interrupted.wait_for_step(2)
    interrupted.process.send_signal(signal.SIGINT)
    output = interrupted.finish(status=Exit.INTERRUPTED)
    assert "checkpoint saved" in output
    terminated = start("interrupted")
    terminated.wait_for_step(5)
    terminated.process.send_signal(signal.SIGTERM)
    terminated.finish(status=Exit.INTERRUPTED)
    last = start("interrupted")
    last.finish()
    assert_same_run(unbroken, last, learned)
    assert verify_ledger(last.ledger()).superseded_steps == 0, "an interrupted run repeats no finished step"


def test_an_operator_steers_a_run_over_grpc(start: Start, learned: Learned) -> None:
    trainer = start("steered")
    with trainer.connect() as client:
        client.pause()
        saved = client.checkpoint()
        assert (trainer.folder / saved.checkpoint / "COMMITTED").exists()
        paused_at = client.status()
        assert paused_at.state == "paused"
        assert paused_at.step == saved.step
        client.resume()
        steps = [item.step for item in client.metrics()]
        assert steps == list(range(1, steps[-1] + 1))
    trainer.finish()
    assert verify_ledger(trainer.ledger()).ok


def test_async_rollouts_survive_a_killed_policy(start: Start, kill_service: Kill) -> None:
    trainer = start("async", max_staleness=1, rollout={"mode": "async"})
    for step in (2, 5):
        trainer.wait_for_step(step)
        kill_service("policy")
    trainer.finish()
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems
    assert report.steps == TOTAL_STEPS
    assert report.trained >= TOTAL_STEPS * 8


def test_a_second_trainer_fences_the_first(start: Start) -> None:
    first = start("first", total_steps=500, run={"checkpoint_every_steps": 100})
    first.wait_for_step(2)
    second = start("second")
    output = first.finish(status=1)
    assert "has taken over" in output  # told to its next offer, or to the push it is in the middle of
    second.finish()


def seeds(count: int) -> list[Any]:
    """The first in every run of the tests, all of them in `make test-long`."""
    return [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, count))]


@pytest.mark.parametrize("seed", seeds(10))
def test_a_trainer_killed_again_and_again_ends_with_the_same_weights(
    unbroken: Any, start: Start, learned: Learned, seed: int
) -> None:
    """F5: five random kills per run, at any moment from loading to the optimiser's step."""
    moments = random.Random(seed)
    for _ in range(5):
        trainer = start("broken", run={"checkpoint_every_steps": 1})
        if moments.random() < 0.8:
            trainer.connect().close()
        time.sleep(moments.uniform(0, 0.6))  # the random moment itself, not a wait for something
        trainer.kill()
    last = start("broken", run={"checkpoint_every_steps": 1})
    last.finish()
    assert_same_run(unbroken, last, learned)


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("service", ["policy", "reward", "reference"])
def test_a_service_killed_at_random_moments_changes_nothing(
    unbroken: Any, start: Start, kill_service: Kill, learned: Learned, service: str, seed: int
) -> None:
    """F1 to F3."""
    moments = random.Random(f"{service}{seed}")
    broken = start("broken")
    for step in (1, 3, 5, 7):
        broken.wait_for_step(step)
        time.sleep(moments.uniform(0, 0.06))
        kill_service(service)
    broken.finish()
    assert_same_run(unbroken, broken, learned)
