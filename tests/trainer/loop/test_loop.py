import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pilothouse.errors import (
    ConfigError,
    DivergedRunError,
    FencedError,
    LogprobGapError,
    NonFiniteWeightsError,
    ReadBackError,
    ScoringFailedError,
    UnavailableError,
    VersionMixError,
)
from pilothouse.trainer.checkpoint import CheckpointStore
from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.ledger_report import verify_ledger
from pilothouse.trainer.metrics import GAUGES


def learned(run: Path) -> dict[str, str]:
    last = sorted((run / "checkpoints").glob("step_*"))[-1]
    files = json.loads((last / "MANIFEST.json").read_text())["files"]
    return {name: entry["blake3"] for name, entry in files.items() if name != "state.json"}


def finish(ready: Any, config: Any) -> Any:
    with ready(config) as (loop, _control):
        return loop.run()


def test_a_run_leaves_a_complete_record(ready: Any, config: Any, cluster: Any, tmp_path: Path) -> None:
    result = finish(ready, config())
    run = tmp_path / "run"
    assert (result.state, result.step) == ("finished", 4)
    assert [row["step"] for row in read_rows(run / "metrics.jsonl")] == [1, 2, 3, 4]
    assert json.loads((run / "config.json").read_text())["total_steps"] == 4
    row = next(read_rows(run / "samples.jsonl"))
    assert {"query", "model response", "score", "kl", "policy_version", "reward_version"} <= row.keys()
    report = verify_ledger(run / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.steps, report.trained, report.in_flight) == (4, 16, 0)
    assert (cluster.policy.epoch, cluster.policy.version) == (1, 4), "the policy serves what was learned last"


def test_checkpoints_load_in_transformers_with_no_code_of_ours(ready: Any, config: Any) -> None:
    result = finish(ready, config())
    policy = AutoModelForCausalLM.from_pretrained(result.checkpoint / "policy")
    value = AutoModelForSequenceClassification.from_pretrained(result.checkpoint / "value")
    assert value.config.num_labels == 1
    assert torch.isfinite(policy(torch.tensor([[5, 6, 7]])).logits).all()
    assert torch.isfinite(value(torch.tensor([[5, 6, 7]])).logits).all()


def test_checklist_48_a_resumed_run_ends_with_the_same_bits(
    ready: Any, config: Any, watcher: Any, tmp_path: Path
) -> None:
    finish(ready, config(run={"name": "unbroken"}))

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    watcher.after[3] = kill  # after a step that no checkpoint has
    with pytest.raises(Killed):
        finish(ready, config(run={"name": "broken"}))
    watcher.after.clear()
    finish(ready, config(run={"name": "broken"}))
    assert watcher.starts[-1] == (2, True, 1)
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")
    report = verify_ledger(tmp_path / "broken" / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.repeated_equal, report.repeated_different) == (1, 0)
    steps = [row["step"] for row in read_rows(tmp_path / "broken" / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4]


def test_lost_services_are_waited_for_and_the_same_batch_repeated(
    ready: Any, config: Any, cluster: Any, tmp_path: Path
) -> None:
    finish(ready, config(run={"name": "unbroken"}))
    cluster.policy.requests.clear()
    lost = UnavailableError("gone")
    cluster.policy.failures = [lost]
    cluster.reward.failures = [lost, lost]
    cluster.reference.failures = [lost]
    cluster.weights.failures = [lost]
    finish(ready, config(run={"name": "broken"}))
    assert cluster.policy.requests[0] == cluster.policy.requests[1]
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")
    assert verify_ledger(tmp_path / "broken" / "ledger.jsonl").ok


def test_a_restarted_policy_gets_the_weights_again_before_it_samples(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    finish(ready, config(run={"name": "unbroken"}, trainable_layers=1))
    watcher.after[2] = cluster.policy.restart
    cluster.weights.dense.clear()
    finish(ready, config(run={"name": "broken"}, trainable_layers=1))
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")
    pushes = cluster.weights.dense
    everything = max(pushes)
    assert [count == everything for count in pushes] == [True, False, True, False, False]


def test_a_push_whose_answer_was_lost_is_not_pushed_over(ready: Any, config: Any, cluster: Any) -> None:
    cluster.weights.lose_answers = 1
    assert finish(ready, config()).state == "finished"


def test_an_engine_that_computes_something_else_fails_the_read_back(
    ready: Any, config: Any, cluster: Any
) -> None:
    cluster.policy.offset = 0.01
    with pytest.raises(ReadBackError, match=r"0\.01 nats"):
        finish(ready, config())


def test_an_older_trainer_is_fenced(ready: Any, config: Any, cluster: Any, watcher: Any) -> None:
    def take_over() -> None:
        cluster.policy.epoch += 1

    watcher.after[1] = take_over
    with pytest.raises(FencedError):
        finish(ready, config())


def test_checklist_44_samples_of_foreign_weights_are_never_trained_on(
    ready: Any, config: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    generate = cluster.policy.generate

    def by_another_version(*args: Any, **kwargs: Any) -> Any:
        cluster.policy.version += 7
        found = generate(*args, **kwargs)
        cluster.policy.version -= 7
        return found

    monkeypatch.setattr(cluster.policy, "generate", by_another_version)
    with pytest.raises(VersionMixError, match="published"):
        finish(ready, config())
    assert verify_ledger(tmp_path / "run" / "ledger.jsonl").trained == 0


@pytest.mark.parametrize("service", ["reward", "reference"])
def test_checklist_44_another_judge_in_mid_run_is_refused(
    ready: Any, config: Any, cluster: Any, watcher: Any, service: str
) -> None:
    def replace() -> None:
        cluster.reward.version = "r2" if service == "reward" else "r1"
        cluster.reference.digest = "d2" if service == "reference" else "d1"

    watcher.after[1] = replace
    with pytest.raises(VersionMixError, match=service):
        finish(ready, config())


def test_prompts_of_one_token_do_not_leave_out_the_read_back_proof(
    ready: Any, config: Any, cluster: Any, tmp_path: Path
) -> None:
    prompts = tmp_path / "short.jsonl"
    prompts.write_text('{"prompt": " film"}\n{"prompt": " movie"}\n')
    cluster.policy.offset = 0.5
    with pytest.raises(ReadBackError):
        finish(ready, config(rollout={"prompts": [prompts], "prompts_per_step": 2}))


def test_a_failed_score_stops_the_run_and_becomes_no_number(
    ready: Any, config: Any, cluster: Any, tmp_path: Path
) -> None:
    cluster.reward.failures = [ScoringFailedError("broken")]
    with ready(config()) as (loop, control):
        with pytest.raises(ScoringFailedError):
            loop.run()
        assert (control.status.state, control.status.error) == ("failed", "broken")
    assert list(read_rows(tmp_path / "run" / "metrics.jsonl")) == []


def test_a_service_that_stays_away_ends_the_run_with_everything_saved(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    finish(ready, config(run={"name": "unbroken"}))
    watcher.after[3] = lambda: cluster.reward.failures.extend([UnavailableError("gone")] * 1000)
    with pytest.raises(UnavailableError, match="reward did not come back"):
        finish(ready, config(run={"name": "broken"}, services={"wait_seconds": 0.3}))
    cluster.reward.failures.clear()
    watcher.after.clear()
    finish(ready, config(run={"name": "broken"}))
    assert watcher.starts[-1] == (3, True, 0), "nothing had to be redone"
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")
    assert verify_ledger(tmp_path / "broken" / "ledger.jsonl").ok


@pytest.mark.parametrize(
    ("service", "error"),
    [("reward", ScoringFailedError), ("reference", VersionMixError), ("weights", FencedError)],
)
def test_an_error_before_the_learner_has_begun_ends_the_run_with_everything_saved(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path, service: str, error: Any
) -> None:
    finish(ready, config(run={"name": "unbroken"}))
    watcher.after[3] = lambda: getattr(cluster, service).failures.append(error("broken"))
    with ready(config(run={"name": "broken"})) as (loop, control):
        with pytest.raises(error, match="broken"):
            loop.run()
        assert control.status.checkpoint == "checkpoints/step_00000003"
    watcher.after.clear()
    finish(ready, config(run={"name": "broken"}))
    assert watcher.starts[-1] == (3, True, 0), "nothing had to be redone"
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")
    report = verify_ledger(tmp_path / "broken" / "ledger.jsonl")
    assert report.ok, report.problems
    assert report.superseded_steps == 0


def test_a_display_that_fails_loses_no_step(ready: Any, config: Any, watcher: Any) -> None:
    def fail() -> None:
        raise RuntimeError("no terminal")

    watcher.after[3] = fail
    with pytest.raises(RuntimeError, match="no terminal"):
        finish(ready, config())
    finish(ready, config())
    assert watcher.starts[-1] == (3, True, 0)


@pytest.mark.parametrize("where", ["amid learning", "in the weights"])
def test_a_learner_that_is_not_sound_is_not_saved(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path, where: str
) -> None:
    def break_it() -> None:
        if where == "amid learning":
            cluster.policy.offset = 0.05
        else:
            cluster.weights.failures.append(NonFiniteWeightsError("NaN"))

    watcher.after[3] = break_it
    with pytest.raises((LogprobGapError, NonFiniteWeightsError)):
        finish(ready, config(publish={"read_back_tolerance_nats": 1.0}))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")) == [
        "step_00000002"
    ]


def test_a_disk_that_takes_no_checkpoint_does_not_hide_what_ended_the_run(
    ready: Any, config: Any, cluster: Any, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left")

    def break_both() -> None:
        cluster.reward.failures.append(ScoringFailedError("broken"))
        monkeypatch.setattr(CheckpointStore, "save", full)

    watcher.after[3] = break_both
    with pytest.raises(ScoringFailedError, match="broken"):
        finish(ready, config())


def test_a_gate_ends_the_run_and_the_last_checkpoint_stays(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    finish(ready, config(total_steps=2))
    cluster.policy.offset = 0.05
    with pytest.raises(LogprobGapError):
        finish(ready, config(publish={"read_back_tolerance_nats": 1.0}))
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step_*")) == [
        "step_00000002"
    ]


def test_a_stop_between_steps_saves_and_resumes_without_repeating(
    ready: Any, config: Any, cluster: Any, watcher: Any, tmp_path: Path
) -> None:
    finish(ready, config(run={"name": "unbroken"}))
    with ready(config(run={"name": "broken"})) as (loop, control):
        watcher.after[1] = lambda: control.request_stop() and None
        result = loop.run()
        assert (result.state, result.step) == ("stopped", 1)
    watcher.after.clear()
    finish(ready, config(run={"name": "broken"}))
    assert learned(tmp_path / "unbroken") == learned(tmp_path / "broken")


def test_a_stop_in_the_last_step_is_heard_and_the_next_call_finishes(
    ready: Any, config: Any, watcher: Any
) -> None:
    with ready(config(total_steps=2)) as (loop, control):
        watcher.after[2] = lambda: control.request_stop() and None
        result = loop.run()
        assert (result.state, result.step) == ("stopped", 2)
    watcher.after.clear()
    with ready(config(total_steps=2)) as (loop, _control):
        result = loop.run()
        assert (result.state, result.step) == ("finished", 2)


def test_a_run_directory_is_not_overwritten_without_resume(ready: Any, config: Any) -> None:
    finish(ready, config())
    with pytest.raises(ConfigError, match="holds a run"):
        finish(ready, config(run={"resume": False}))


def test_a_run_whose_checkpoints_are_all_broken_is_not_started_over(
    ready: Any, config: Any, tmp_path: Path
) -> None:
    finish(ready, config())
    folders = sorted((tmp_path / "run" / "checkpoints").glob("step_*"))
    for folder in folders:
        (folder / "COMMITTED").unlink()
    with pytest.raises(DivergedRunError, match="no checkpoint"):
        finish(ready, config())
    assert sorted((tmp_path / "run" / "checkpoints").glob("step_*")) == folders
    assert len(list(read_rows(tmp_path / "run" / "metrics.jsonl"))) == 4


@pytest.mark.parametrize(
    "change",
    [{"policy": {"learning_rate": 1e-4}}, {"seed": 1}, {"rollout": {"prompts_per_step": 2}}, {"threads": 1}],
    ids=["learning rate", "seed", "batch", "threads"],
)
def test_a_run_is_not_resumed_with_settings_that_decide_what_it_learns(
    ready: Any, config: Any, cluster: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    finish(ready, config(total_steps=2))
    before = (tmp_path / "run" / "config.json").read_text()
    epoch = cluster.policy.epoch
    with pytest.raises(DivergedRunError, match=r"other settings \(.*ppo\.run\.accept_changes = true"):
        finish(ready, config(**change))
    assert (tmp_path / "run" / "config.json").read_text() == before
    assert cluster.policy.epoch == epoch
    assert finish(ready, config(**change, run={"accept_changes": True})).step == 4
    assert verify_ledger(tmp_path / "run" / "ledger.jsonl").ok


def test_a_run_is_not_resumed_with_other_prompts_at_the_same_path(
    ready: Any, config: Any, tmp_path: Path
) -> None:
    settings = config(total_steps=2)
    finish(ready, settings)
    (file,) = settings.rollout.prompts
    moved = file.rename(tmp_path / "moved.jsonl")
    assert finish(ready, config(total_steps=3, rollout={"prompts": [moved]})).step == 3
    file.write_text(moved.read_text().replace("film", "movie"))
    with pytest.raises(DivergedRunError, match=r"other settings \(prompts\)"):
        finish(ready, config())


def test_a_resumed_run_may_go_on_longer_save_more_often_and_have_wider_gates(
    ready: Any, config: Any, watcher: Any
) -> None:
    finish(ready, config(total_steps=2))
    gates = {"kl_budget_nats": 80.0}
    run = {"checkpoint_every_steps": 1, "samples_per_step": 0}
    finish(ready, config(total_steps=5, gates=gates, run=run, services={"wait_seconds": 9}))
    assert watcher.starts[-1] == (2, True, 0)


def test_a_ledger_of_another_run_is_not_continued(ready: Any, config: Any, tmp_path: Path) -> None:
    finish(ready, config())
    (tmp_path / "run" / "ledger.jsonl").unlink()
    with pytest.raises(DivergedRunError, match="does not match checkpoint 4"):
        finish(ready, config(total_steps=6))


def test_several_samples_of_a_prompt_are_one_draw(ready: Any, config: Any, tmp_path: Path) -> None:
    finish(ready, config(rollout={"samples_per_prompt": 3, "prompts_per_step": 2}))
    report = verify_ledger(tmp_path / "run" / "ledger.jsonl")
    assert report.ok, report.problems
    assert (report.draws, report.trained) == (8, 24)


def test_a_finished_run_started_again_only_publishes(ready: Any, config: Any, cluster: Any) -> None:
    finish(ready, config())
    cluster.policy.restart()
    calls = cluster.reward.calls
    assert finish(ready, config()).step == 4
    assert cluster.reward.calls == calls
    assert cluster.policy.version == 4


def test_every_gauge_is_fed_by_a_step(ready: Any, config: Any, watcher: Any) -> None:
    finish(ready, config(total_steps=1))
    assert GAUGES.keys() <= watcher.metrics[1].keys()
