import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.errors import RunInUseError
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir


def test_a_second_trainer_is_kept_out_and_told_who_is_inside(tmp_path: Path) -> None:
    import os

    with RunDir(tmp_path / "run"), pytest.raises(RunInUseError, match=str(os.getpid())):
        RunDir(tmp_path / "run")
    with RunDir(tmp_path / "run"):
        pass


def test_a_killed_trainer_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from pilothouse.trainer.run_dir import RunDir\n"
        "held = RunDir(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert killed.returncode == -9
    with RunDir(tmp_path / "run"):
        pass


def test_epochs_only_rise_and_pass_every_other_trainer(tmp_path: Path) -> None:
    with RunDir(tmp_path) as run:
        assert [run.take_epoch(above=0), run.take_epoch(above=0), run.take_epoch(above=7)] == [1, 2, 8]
    with RunDir(tmp_path) as run:
        assert run.take_epoch(above=3) == 9


def test_the_effective_configuration_is_kept(tmp_path: Path) -> None:
    with RunDir(tmp_path) as run:
        run.write_config(PpoRunConfig())
        run.write_config(PpoRunConfig(total_steps=7))
        assert json.loads(run.config_file.read_text())["total_steps"] == 7
