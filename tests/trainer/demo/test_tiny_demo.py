import io
import json
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM

from pilothouse.trainer.demo.run import run_demo
from pilothouse.trainer.durable import read_rows


@pytest.mark.heavy
@pytest.mark.timeout(280)
def test_the_tiny_demo_teaches_praise_and_a_second_call_reuses_every_stage(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # those of other tests' fixtures
    console = Console(file=io.StringIO(), width=120)
    assert run_demo(tmp_path, tiny=True, seed=1, console=console)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["passed"] is True
    assert summary["seed"] == 1
    assert summary["reward_model"]["accuracy"]["mean"] >= 0.75
    assert summary["reward"]["difference"]["low"] > 0
    assert summary["independent"]["difference"]["mean"] > 0
    assert summary["kl_per_sequence"]["mean"] <= summary["limits"]["kl_budget_nats"]
    assert "<svg" in (tmp_path / "report.html").read_text()
    log = list(read_rows(tmp_path / "log.jsonl"))
    served = [row for row in log if row["event"] == "listening" and row["server"] == "trainer"]
    assert len(served) == 3, "SFT, reward model and PPO can be watched"
    assert all(row["http_port"] > 0 for row in served)
    policy = json.loads((tmp_path / "ppo" / "stage.json").read_text())["outputs"]["policy"]
    AutoModelForCausalLM.from_pretrained(policy)
    assert set(psutil.Process().children(recursive=True)) <= others
    (tmp_path / "after" / "stage.json").unlink()
    (tmp_path / "after" / "evaluation.json").unlink()

    assert run_demo(tmp_path, tiny=True, seed=1, console=Console(file=io.StringIO()))
    again = json.loads((tmp_path / "summary.json").read_text())
    assert again["reward"]["after"] == summary["reward"]["after"]
    assert again["seconds"]["Online PPO"] == summary["seconds"]["Online PPO"]
