from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilothouse.errors import ScoringFailedError, UnavailableError
from pilothouse.trainer.ledger_report import verify_ledger


def run(ready: Any, config: Any, **overrides: Any) -> Any:
    overrides["rollout"] = {"mode": "async"} | overrides.get("rollout", {})
    with ready(config(**({"max_staleness": 1} | overrides))) as (loop, _control):
        return loop.run()


def test_rollouts_overlap_training_by_at_most_the_allowed_versions(
    ready: Any, config: Any, watcher: Any, tmp_path: Path
) -> None:
    assert run(ready, config, total_steps=6).state == "finished"
    staleness = [watcher.metrics[step]["staleness/max"] for step in range(1, 7)]
    assert staleness[0] == 0
    assert max(staleness) == 1, "the next rollout begins before this step trains"
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.trained, report.in_flight) == (24, 0)


def test_checklist_45_stale_samples_are_dropped_counted_and_replaced(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F17: the fourth batch comes from weights that are too old, all but one sample of it."""
    stream = cluster.policy.stream

    def old(prompts: Any, *args: Any, **kwargs: Any) -> Any:
        fourth = len(cluster.policy.requests) == 3
        for item in stream(prompts, *args, **kwargs):
            if fourth and item.prompt_index > 0:
                span = item.version_spans[0]
                item = replace(item, version_spans=(replace(span, version=span.version - 2),))
            yield item

    monkeypatch.setattr(cluster.policy, "stream", old)
    assert run(ready, config, total_steps=6).state == "finished"
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert report.dropped == {"stale": 3}
    dropped = [int(watcher.metrics[step]["rollout/dropped_stale"]) for step in range(1, 7)]
    assert dropped == [0, 0, 0, 3, 0, 0]
    samples = [int(watcher.metrics[step]["rollout/samples"]) for step in range(1, 7)]
    assert samples == [4, 4, 4, 5, 4, 4], "the next batch took their place, whole"


def test_a_policy_lost_amid_a_batch_costs_no_sample(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    def lose() -> None:
        cluster.policy.restart()
        cluster.policy.failures = [UnavailableError("gone")]

    watcher.after[2] = lose
    assert run(ready, config, total_steps=5).state == "finished"
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert report.steps == 5
    assert report.trained >= 20


def test_an_error_in_a_rollout_that_runs_ahead_loses_no_step(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    rarely = {"checkpoint_every_steps": 100}
    watcher.after[3] = lambda: cluster.reward.failures.append(ScoringFailedError("broken"))
    with pytest.raises(ScoringFailedError, match="broken"):
        run(ready, config, total_steps=8, run=rarely)
    watcher.after.clear()
    run(ready, config, total_steps=8, run=rarely)
    assert watcher.starts[-1][0] >= 3
    assert watcher.starts[-1][2] == 0, "nothing had to be redone"
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.steps, report.in_flight) == (8, 0)


def test_a_resumed_async_run_draws_ahead_again(ready: Any, config: Any, tmp_path: Path) -> None:
    run(ready, config, total_steps=3)
    run(ready, config, total_steps=6)
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.steps, report.trained, report.in_flight) == (6, 24, 0)
