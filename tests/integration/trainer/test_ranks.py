"""A run over two ranks against real services, as torchrun and as a Job start it."""

import os
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
PATIENCE = {"timeout_seconds": 20, "start_seconds": 60}
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


def assert_exact(trainer: Any) -> None:
    report = verify_ledger(trainer.ledger())
    assert report.ok, report.problems
    assert (report.steps, report.trained, report.in_flight) == (TOTAL_STEPS, TOTAL_STEPS * 8, 0)
    assert report.repeated_different == 0


def test_torchrun_starts_a_run_over_two_ranks_that_leaves_an_exact_record(together: Any) -> None:
    assert_exact(together)
    assert (together.folder / "metrics.jsonl").read_text().count("\n") == TOTAL_STEPS


@pytest.mark.parametrize("lost", ["helper", "trainer"])
def test_a_killed_rank_ends_the_other_and_all_go_on_from_the_checkpoint_to_the_same_bits(
    together: Any, start: Start, learned: Learned, lost: str
) -> None:
    pair = Pair(start, "broken")
    pair.trainer.wait_for_step(4)
    getattr(pair, lost).kill()
    rank, other = (1, pair.trainer) if lost == "helper" else (0, pair.helper)
    assert f"error: rank {rank} of 2 ranks was lost" in other.finish(status=Exit.UNAVAILABLE)
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


@pytest.mark.parametrize("told", ["helper", "trainer"])
def test_one_rank_told_to_end_saves_and_ends_the_run_for_both(
    together: Any, start: Start, learned: Learned, told: str
) -> None:
    pair = Pair(start, "told")
    pair.trainer.wait_for_step(2)
    os.kill(getattr(pair, told).process.pid, signal.SIGTERM)
    assert "checkpoint saved" in pair.trainer.finish(status=Exit.INTERRUPTED)
    pair.helper.finish(status=Exit.INTERRUPTED)
    again = Pair(start, "told")
    again.trainer.finish()
    again.helper.finish()
    assert_exact(again.trainer)
    assert verify_ledger(again.trainer.ledger()).superseded_steps == 0, "no finished step is repeated"
    assert learned(again.trainer.folder) == learned(together.folder)


def test_a_run_goes_on_with_another_number_of_ranks(start: Start) -> None:
    pair = Pair(start, "fewer", total_steps=3)
    pair.trainer.finish()
    pair.helper.finish()
    alone = start("fewer", total_steps=TOTAL_STEPS)
    assert "resumed" in alone.finish()
    assert_exact(alone)
