import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from pilothouse.policy.metrics import PushMetrics
from pilothouse.trainer import metrics as module
from pilothouse.trainer.metrics import MetricsLog


def test_rows_are_written_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(1, {"objective/kl": 0.5, "loss/policy_avg": float("nan")})
        assert log.rows() == [{"step": 1, "loss/policy_avg": None, "objective/kl": 0.5}]


def test_a_resumed_run_has_no_step_twice(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with MetricsLog(file) as log:
        for step in (1, 2, 3):
            log.write(step, {"eps": float(step)})
    with file.open("a") as stream:
        stream.write('{"step":4,"eps"')  # killed while writing
    with MetricsLog(file) as log:
        assert log.restore(2) == 1
        log.write(3, {"eps": 9.0})
        assert [(row["step"], row["eps"]) for row in log.rows()] == [(1, 1.0), (2, 2.0), (3, 9.0)]


def test_prometheus_gauges_show_the_last_step(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(7, {"objective/kl": 1.5, "objective/scores": -0.25})
    assert REGISTRY.get_sample_value("pilothouse_kl") == 1.5
    assert REGISTRY.get_sample_value("pilothouse_reward_mean") == -0.25
    assert REGISTRY.get_sample_value("pilothouse_trainer_step") == 7


def test_prometheus_is_told_when_a_run_began_and_when_its_last_step_ended(tmp_path: Path) -> None:
    name = "pilothouse_trainer_last_step_timestamp_seconds"
    started = time.time()
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        began = REGISTRY.get_sample_value(name)
        log.write(1, {"eps": 1.0})
        ended = REGISTRY.get_sample_value(name)
    assert began is not None
    assert ended is not None
    assert started <= began <= ended <= time.time()


def test_what_was_not_measured_yet_is_no_number() -> None:
    program = (
        "from pilothouse.trainer.metrics import FIT_GAUGES, GAUGES\n"
        "print({gauge.collect()[0].samples[0].value for gauge in (GAUGES | FIT_GAUGES).values()})"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(shown.stdout.strip(" {}\n").split(", ")) == {"nan"}


def test_every_push_is_counted_under_the_name_that_the_policy_uses(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    PushMetrics(registry)
    [policys] = [family for family in registry.collect() if family.name == "pilothouse_weights_push_seconds"]
    before = REGISTRY.get_sample_value("pilothouse_weights_push_seconds_count")
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(1, {"time/push_seconds": 0.25})
        log.write(2, {"time/push_seconds": 0.5})
    [ours] = [family for family in REGISTRY.collect() if family.name == "pilothouse_weights_push_seconds"]
    assert REGISTRY.get_sample_value("pilothouse_weights_push_seconds_count") == (before or 0) + 2
    assert (ours.type, ours.documentation) == (policys.type, policys.documentation)
    assert [sample.labels for sample in ours.samples] == [sample.labels for sample in policys.samples]


def test_tensorboard_gets_every_scalar(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard") as log:
        log.write(1, {"eps": 1.0})
        log.write(2, {"eps": 2.0})
    with MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard") as log:
        log.restore(1)
        log.write(2, {"eps": 5.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("eps")] == [(1, 1.0), (2, 5.0)]


def test_a_broken_tracker_never_stops_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(module, "_summary_writer", lambda folder, purge_step: Full())
    with MetricsLog(tmp_path / "metrics.jsonl", tensorboard=tmp_path / "tensorboard") as log:
        log.write(1, {"eps": 1.0})
        log.write(2, {"eps": 2.0})
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
