"""A run over two ranks against real services, as torchrun and as a Job start it."""

import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilothouse.cli.exits import Exit
from pilothouse.trainer.ledger_report import verify_ledger

pytestmark = pytest.mark.heavy

TOTAL_STEPS = 8
TORCHRUN = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "--no-python",
)
PATIENCE = {"timeout_seconds": 100, "start_seconds": 200}
Learned = Callable[[Path], dict[str, str]]
Start = Callable[..., Any]


class Pair:
    """Rank 0 and rank 1 of a run, started like the pods of a Job."""

    def __init__(self, start: Start, name: str, **overrides: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.helper, self.trainer = (
            start(name, environment=shared | {"RANK": rank}, ranks=PATIENCE, **overrides) for rank in "10"
        )


@pytest.fixture(scope="module")
def together(begin: Start, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of two ranks under torchrun that nothing disturbed, finished."""
    folder = tmp_path_factory.mktemp("runs")
    trainer = begin(folder, "together", launcher=TORCHRUN, ranks=PATIENCE)
    trainer.finish()
    return trainer


def assert_exact(trainer: Any, steps: int = TOTAL_STEPS) -> None:
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems
    assert (report.steps, report.trained, report.in_flight) == (steps, steps * 8, 0)
    assert report.repeated_different == 0


def test_torchrun_starts_a_run_over_two_ranks_that_leaves_an_exact_record(together: Any) -> None:
    assert_exact(together)
    assert (together.folder / "metrics.jsonl").read_text().count("\n") == TOTAL_STEPS


def test_a_killed_trainer_ends_its_helper_and_both_go_on_to_the_same_bits(
    together: Any, start: Start, learned: Learned
) -> None:
    pair = Pair(start, "broken")
    pair.trainer.wait_for_step(4)
    pair.trainer.kill()
    assert "error: rank 0 of 2 ranks was lost" in pair.helper.finish(status=Exit.UNAVAILABLE)
    again = Pair(start, "broken")
    assert "resumed" in again.trainer.finish()
    again.helper.finish()
    assert_exact(again.trainer)
    assert learned(again.trainer.folder) == learned(together.folder)


def test_torchrun_starts_all_ranks_again_when_one_dies(together: Any, start: Start, learned: Learned) -> None:
    trainer = start("restarted", launcher=(*TORCHRUN, "--max-restarts=1"), ranks=PATIENCE)
    trainer.wait_for_step(4)
    helpers = [child for child in psutil.Process(trainer.process.pid).children() if rank_of(child) == "1"]
    assert len(helpers) == 1
    helpers[0].kill()
    assert "resumed" in trainer.finish()
    assert_exact(trainer)
    assert learned(trainer.folder) == learned(together.folder)


def rank_of(process: psutil.Process) -> str:
    return process.environ().get("RANK", "")


def test_a_helper_that_is_told_to_end_stops_the_run_which_another_number_of_ranks_finishes(
    start: Start,
) -> None:
    pair = Pair(start, "told", total_steps=30)
    pair.trainer.wait_for_step(2)
    pair.helper.process.send_signal(signal.SIGTERM)
    output = pair.trainer.finish(status=Exit.INTERRUPTED)
    assert "another rank was told to end" in output
    assert "checkpoint saved" in output
    pair.helper.finish(status=Exit.INTERRUPTED)
    refused = start("told", total_steps=30).finish(status=Exit.FAILED)
    assert "other settings (number_of_ranks)" in refused
    alone = start("told", total_steps=30, run={"accept_changes": True})
    assert "resumed" in alone.finish()
    assert_exact(alone, steps=30)
    assert verify_ledger(alone.ledger()).superseded_steps == 0, "no finished step is repeated"
