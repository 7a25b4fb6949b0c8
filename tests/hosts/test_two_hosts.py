"""Services on one host, the trainer on another, and what happens to the network between them.

Each test prints how long it took until all went on, once the network was whole again; nothing asserts that.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.hosts.conftest import PROMPTS_PER_STEP, TOTAL_STEPS, FarTrainer, Start
from tests.hosts.network import Network
from tests.hosts.watch import Watch
from tests.integration.trainer.conftest import learned

from pilothouse.cli.exits import Exit
from pilothouse.client.push_plan import plan_push
from pilothouse.models.load import load_causal_lm, parameters_by_name
from pilothouse.trainer.ledger_report import verify_ledger

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]

CUT_SECONDS = 30  # the incident itself, not a wait for something
ONE_WAY_SECONDS = 12
KBIT = 5_000
"""So slow that a push takes seconds."""


def unplug(network: Network) -> None:
    """Somebody pulls the trainer's cable."""
    network.unplug("trainer")


def swallow(network: Network) -> None:
    """The switch swallows all packets, both ways, and says nothing."""
    network.swallow("services", "trainer")


def tell(what: str, happens: Callable[[], None]) -> None:
    """Waits for something and prints how long that took."""
    started = time.monotonic()
    happens()
    print(f"{what} {time.monotonic() - started:.1f} s")


def assert_exact(trainer: FarTrainer) -> None:
    """Every sample was used once, and none was lost."""
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems
    assert (report.steps, report.trained) == (TOTAL_STEPS, TOTAL_STEPS * PROMPTS_PER_STEP)
    assert (report.in_flight, report.repeated_different) == (0, 0)


def assert_no_trace(trainer: FarTrainer, unbroken: FarTrainer) -> None:
    """The run learned what it would have learned without the incident, to the bit."""
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(unbroken.folder)


def digest(model: Path) -> str:
    """Returns the digest of a model folder's weights, as a push announces it."""
    weights = parameters_by_name(load_causal_lm(model).model)
    plan = plan_push({name: tensor.detach().numpy() for name, tensor in weights.items()})
    return plan.manifest.digest.hex()


def assert_only_whole_weights_served(policy: Watch, trainer: FarTrainer, model: Path) -> None:
    """Whoever asked the policy at any moment got one of the versions that trainers published, whole."""
    policy.check()
    checkpoints = trainer.checkpoints()
    published = [digest(model), *(digest(folder / "policy") for folder in checkpoints)]
    epochs = {json.loads((folder / "state.json").read_text())["epoch"] for folder in checkpoints}
    policy.wait_for_version(TOTAL_STEPS)  # in the end the policy has what was learned last
    _former, *served = policy.digests()
    assert {epoch for epoch, _ in served} == epochs
    for version in served:
        assert policy.digests()[version] == {published[version[1]]}
    for version, outcomes in policy.probes().items():
        assert len(outcomes) == 1, f"{version} has computed different things"


def test_a_run_over_two_hosts_ends_and_its_ledger_is_exact(unbroken: FarTrainer) -> None:
    assert_exact(unbroken)


@pytest.mark.parametrize("cut", [unplug, swallow])
def test_a_link_that_is_dead_for_half_a_minute_in_a_push_and_in_a_step_leaves_no_trace(
    cut: Callable[[Network], None],
    unbroken: FarTrainer,
    start: Start,
    switch: Network,
    policy: Watch,
    model: Path,
    push_bytes: int,
) -> None:
    switch.slow_down(KBIT)
    trainer = start("cut")
    policy.wait_for_answers_to(0)
    switch.wait_for_bytes("services", push_bytes // 2)  # of the next push: all else is small
    served = policy.version
    cut(switch)
    time.sleep(CUT_SECONDS)
    assert policy.version == served, "half a push serves nobody"
    switch.mend()
    tell("the push is through after", lambda: policy.wait_for_version(1))

    policy.wait_for_answers_to(2)
    cut(switch)
    time.sleep(CUT_SECONDS)
    assert trainer.steps_done() == 2, "the answers never arrived"
    switch.mend()
    tell("the step is done after", lambda: trainer.wait_for_step(3))

    output = trainer.finish()
    assert "waiting for weights" in output
    assert "waiting for policy" in output
    assert_no_trace(trainer, unbroken)
    assert_only_whole_weights_served(policy, trainer, model)


def assert_gave_up_on(service: str, trainer: FarTrainer) -> None:
    """The trainer ends with one line that says all, and with the status for trying again."""
    *_, last = trainer.finish(status=Exit.UNAVAILABLE).splitlines()
    assert last.startswith(f"error: {service} did not come back within 5 s")
    assert last.endswith("resume the run, nothing is lost")
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems


def test_a_trainer_whose_patience_is_at_its_end_says_so_and_the_same_command_goes_on(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path, push_bytes: int
) -> None:
    switch.slow_down(KBIT)
    trainer = start("given-up", services={"wait_seconds": 5})
    policy.wait_for_answers_to(0)
    switch.wait_for_bytes("services", push_bytes // 2)
    swallow(switch)
    tell("the trainer gives up after", lambda: assert_gave_up_on("weights", trainer))
    switch.mend()
    resumed = start("given-up")
    assert "resumed after step 1, 0 steps redone" in resumed.finish()
    assert_no_trace(resumed, unbroken)
    assert_only_whole_weights_served(policy, resumed, model)


def test_packets_that_get_lost_one_way_only_are_waited_out(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path
) -> None:
    trainer = start("one-way")
    for step, deaf in ((1, "services"), (2, "trainer")):
        policy.wait_for_answers_to(step)
        switch.swallow(deaf)
        time.sleep(ONE_WAY_SECONDS)
        assert trainer.steps_done() == step
        switch.mend()
        tell(f"{deaf} deaf: the step is done after", partial(trainer.wait_for_step, step + 1))
    trainer.finish()
    assert_no_trace(trainer, unbroken)
    assert_only_whole_weights_served(policy, trainer, model)


def test_a_long_bad_line_makes_a_run_slow_and_nothing_else(
    unbroken: FarTrainer, start: Start, switch: Network, policy: Watch, model: Path
) -> None:
    switch.move_apart(delay_seconds=0.2, loss=0.05)
    trainer = start("far-away")
    trainer.wait_for_step(1)
    tell("the other steps take", lambda: trainer.wait_for_step(TOTAL_STEPS))
    assert "service lost" not in trainer.finish()
    assert_no_trace(trainer, unbroken)
    assert_only_whole_weights_served(policy, trainer, model)
