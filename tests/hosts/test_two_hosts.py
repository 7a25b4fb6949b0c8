"""Services on one host, the trainer on another, and what happens to the network between them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.hosts.conftest import PROMPTS_PER_STEP, TOTAL_STEPS, FarTrainer, Start, digest
from tests.hosts.network import Network
from tests.hosts.watching import Watch
from tests.integration.trainer.conftest import learned

from pilothouse.cli.exits import Exit
from pilothouse.trainer.ledger_report import verify_ledger

pytestmark = pytest.mark.hosts

CUT_SECONDS = 30
ONE_WAY_SECONDS = 12
"""More than it takes to notice."""
Cut = Callable[[Network], None]


def unplug(network: Network) -> None:
    """The trainer's cable is pulled: its interface goes down."""
    network.unplug("trainer")


def swallow(network: Network) -> None:
    """The switch swallows everything, both ways: nobody is told."""
    network.swallow("trainer", "services")


def assert_exact(trainer: FarTrainer, steps: int = TOTAL_STEPS) -> None:
    """Every sample was used once, and none was lost."""
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems
    assert (report.steps, report.trained, report.in_flight) == (steps, steps * PROMPTS_PER_STEP, 0)
    assert report.repeated_different == 0


def assert_only_published_weights_served(policy: Watch, trainer: FarTrainer, model: Path, before: int) -> None:
    """Whoever asked the policy during the test got a version that the trainer published, whole."""
    policy.check()
    epoch = trainer.epoch()
    assert policy.epochs() <= {before, epoch}
    checkpoints = sorted((trainer.folder / "checkpoints").glob("step_*"))
    published = [digest(model), *(digest(folder / "policy") for folder in checkpoints)]
    seen = policy.seen(epoch)
    assert max(seen) == len(published) - 1, "the policy goes on with what was learned last"
    for version, (digests, probes) in seen.items():
        assert digests <= {published[version]}
        assert len(probes) <= 1, f"version {version} computed different things"


def seconds_to(happens: Callable[[], Any]) -> float:
    started = time.monotonic()
    happens()
    return time.monotonic() - started


def test_a_run_over_two_hosts_ends_and_its_ledger_is_exact(unbroken: FarTrainer) -> None:
    assert_exact(unbroken)


@pytest.mark.parametrize("cut", [unplug, swallow])
def test_a_link_that_is_cut_for_half_a_minute_in_a_push_leaves_no_trace(
    unbroken: FarTrainer,
    start: Start,
    switch: Network,
    policy: Watch,
    model: Path,
    push_bytes: int,
    cut: Cut,
) -> None:
    before = policy.version
    switch.slow_down(kbit=5000)  # a push takes about six seconds
    trainer = start("cut")
    trainer.wait_for_step(1)
    served = policy.version
    switch.wait_for_bytes("services", push_bytes // 2)
    cut(switch)
    time.sleep(CUT_SECONDS)
    assert policy.version == served, "half a push serves nobody"
    switch.mend()
    print("the next version serves after", seconds_to(lambda: policy.wait_until(lambda now: tuple(now["version"]) > served)))
    output = trainer.finish()
    print(output)
    assert "waiting for weights" in output
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(unbroken.folder)
    assert_only_published_weights_served(policy, trainer, model, before[0])


@pytest.mark.parametrize("cut", [unplug, swallow])
def test_a_link_that_is_cut_for_half_a_minute_while_answers_are_generated_leaves_no_trace(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path, cut: Cut
) -> None:
    before = policy.version
    trainer = start("cut")
    trainer.wait_for_step(1)
    policy.wait_until(lambda now: now["version"][1] == 1 and now["running"])
    cut(switch)
    assert trainer.steps_done() == 1
    time.sleep(CUT_SECONDS)
    assert trainer.steps_done() == 1
    switch.mend()
    print("the next step is done after", seconds_to(lambda: trainer.wait_for_step(2)))
    output = trainer.finish()
    print(output)
    assert "waiting for policy" in output
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(unbroken.folder)
    assert_only_published_weights_served(policy, trainer, model, before[0])


def test_a_cut_beyond_the_trainers_patience_ends_it_with_a_line_and_the_same_command_goes_on(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path, push_bytes: int
) -> None:
    patience = {"services": {"wait_seconds": 5}}
    before = policy.version
    switch.slow_down(kbit=5000)
    trainer = start("given-up", **patience)
    trainer.wait_for_step(1)
    served = policy.version
    switch.wait_for_bytes("services", push_bytes // 2)
    switch.swallow("trainer", "services")
    cut = time.monotonic()
    output = trainer.finish(status=Exit.UNAVAILABLE)
    print("gave up after", time.monotonic() - cut)
    print(output)
    too_early = start("given-up", **patience).finish(status=Exit.UNAVAILABLE)
    print(too_early)
    assert policy.version == served
    switch.mend()
    resumed = start("given-up", **patience)
    output=resumed.finish()
    print(output)
    assert_exact(resumed)
    assert learned(resumed.folder) == learned(unbroken.folder)


@pytest.mark.parametrize("deaf", ["services", "trainer"])
def test_packets_that_get_lost_one_way_only_are_waited_out(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path, deaf: str
) -> None:
    before = policy.version
    trainer = start("one-way")
    trainer.wait_for_step(1)
    policy.wait_until(lambda now: now["version"][1] == 1 and now["running"])
    switch.swallow(deaf)
    time.sleep(ONE_WAY_SECONDS)
    switch.mend()
    print("the next step is done after", seconds_to(lambda: trainer.wait_for_step(2)))
    output = trainer.finish()
    print(output)
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(unbroken.folder)
    assert_only_published_weights_served(policy, trainer, model, before[0])


def test_a_long_bad_line_makes_a_run_slower_and_nothing_else(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path
) -> None:
    before = policy.version
    switch.move_apart(delay_seconds=0.2, loss=0.05)
    started=time.monotonic()
    trainer = start("far-away")
    output = trainer.finish()
    print(output)
    print(time.monotonic()-started)
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(unbroken.folder)
    assert_only_published_weights_served(policy, trainer, model, before[0])
