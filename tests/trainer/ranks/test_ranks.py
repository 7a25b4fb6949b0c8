"""Processes that learn together, as torchrun starts them."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from pilothouse.cli.exits import Exit

Run = Callable[..., Any]


@pytest.mark.heavy
def test_two_ranks_learn_what_one_learns_and_the_same_bits_every_time(run_ranks: Run) -> None:
    runs = [run_ranks("worker learn", 2, SEED="1", CASES="3") for _ in range(2)]
    outputs = [output for ranks in runs for output in ranks.outputs()]
    assert [ranks.statuses for ranks in runs] == [[0, 0], [0, 0]], outputs
    assert outputs[0].count("learned") == 3
    assert len(set(outputs)) == 1, "both ranks of both runs have the same bits"


@pytest.mark.heavy
def test_three_ranks_learn_what_one_learns(run_ranks: Run) -> None:
    ranks = run_ranks("worker learn", 3, SEED="2", CASES="8")
    outputs = ranks.outputs()
    assert ranks.statuses == [0, 0, 0], outputs
    assert len(set(outputs)) == 1


@pytest.mark.parametrize("lost", [0, 2])
def test_a_killed_rank_is_named_by_all_the_others(run_ranks: Run, lost: int) -> None:
    ranks = run_ranks("losing", 3, LOST=str(lost), SIGNAL="SIGKILL", TIMEOUT="100")
    assert_named(ranks, lost)


@pytest.mark.heavy
def test_a_rank_that_hangs_is_named_by_all_the_others(run_ranks: Run) -> None:
    ranks = run_ranks("losing", 3, LOST="1", SIGNAL="SIGSTOP", TIMEOUT="15")
    assert_named(ranks, 1)


def assert_named(ranks: Any, lost: int) -> None:
    for rank in {0, 1, 2} - {lost}:
        output = ranks.processes[rank].communicate()[0]
        assert f"error: rank {lost} of 3 ranks was lost" in output
        assert "start all ranks again: the run goes on from its last checkpoint" in output
        assert ranks.processes[rank].returncode == Exit.UNAVAILABLE


@pytest.mark.heavy
def test_the_others_end_when_the_run_is_finished(run_ranks: Run) -> None:
    ranks = run_ranks("worker run", 2, STEPS="2")
    outputs = ranks.outputs()
    assert "finished" in outputs[0]
    assert ranks.statuses == [0, 0], outputs


@pytest.mark.heavy
def test_a_rank_that_is_told_to_end_has_the_run_stopped_between_two_steps(run_ranks: Run) -> None:
    ranks = run_ranks("worker run", 2)
    ranks.wait_for(0, "step 1")
    ranks.processes[1].send_signal(signal.SIGTERM)
    output, other = ranks.outputs()
    assert "another rank was told to end" in output
    assert "stopped" in output
    assert ranks.statuses == [0, Exit.INTERRUPTED], other


@pytest.mark.heavy
def test_a_gate_stops_all_ranks(run_ranks: Run) -> None:
    ranks = run_ranks("worker run", 2, STEPS="1", GATE="yes")
    output, other = ranks.outputs()
    assert "error: scores are of reward model 'another'" in output
    assert "rank 0 has ended the run with an error" in other
    assert ranks.statuses == [Exit.FAILED, Exit.UNAVAILABLE]


@pytest.mark.parametrize("rollout", [pytest.param("short", marks=pytest.mark.heavy), "long"])
def test_rank_0_notices_a_killed_helper_while_it_learns_and_while_it_does_not(
    run_ranks: Run, rollout: str
) -> None:
    ranks = run_ranks("worker run", 2, ROLLOUT=rollout)
    ranks.wait_for(0, "step 1")
    ranks.processes[1].kill()
    output = ranks.outputs()[0]
    assert "error: rank 1 of 2 ranks was lost" in output
    assert ("a rank is lost; the run stops" in output) == (rollout == "long")
    assert ranks.statuses == [Exit.UNAVAILABLE, -signal.SIGKILL]


@pytest.mark.heavy
def test_a_helper_ends_when_rank_0_is_killed(run_ranks: Run) -> None:
    ranks = run_ranks("worker run", 2, ROLLOUT="long")
    ranks.wait_for(0, "step 1")
    ranks.processes[0].kill()
    assert "error: rank 0 of 2 ranks was lost" in ranks.outputs()[1]
    assert ranks.statuses[1] == Exit.UNAVAILABLE


@pytest.mark.heavy
def test_a_rank_that_comes_back_too_early_is_sent_away(run_ranks: Run) -> None:
    ranks = run_ranks("losing", 2, LOST="1", SIGNAL="SIGSTOP", TIMEOUT="100")
    ranks.wait_for(1, "met")
    early = ranks.again(1)
    assert "error: rank 1 is back before the others have noticed" in early.communicate()[0]
    assert early.returncode == Exit.UNAVAILABLE
