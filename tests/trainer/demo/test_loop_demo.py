import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.trainer.demo.loop.browser import PROGRAMS
from pilothouse.trainer.durable import read_rows


def demo(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pilothouse.cli.main", "demo", "--loop", "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_loop_that_ended_before_its_last_measure_measures_the_policy_that_it_had_learned(
    tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    require(any(map(shutil.which, PROGRAMS)), "Chromium; `make system-deps` installs it")
    first = demo(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    history = tmp_path / "loop" / "turns.jsonl"
    marker = tmp_path / "loop" / "turn-2" / "measure" / "stage.json"
    measured = json.loads(marker.read_text())
    marker.write_text(json.dumps({key: value for key, value in measured.items() if key != "outputs"}))
    rows = history.read_text().splitlines()
    history.write_text(rows[0] + "\n")

    # The services begin again, the policy with the weights of SFT; the raters are new, on the page too.
    again = demo(tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(marker.read_text())["outputs"] == measured["outputs"]
    assert [row["rankings"] for row in read_rows(history)] == [json.loads(row)["rankings"] for row in rows]
