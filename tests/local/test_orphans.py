import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.local.conftest import alive, answers, kill, until

PARENT = """
import json, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pilothouse.local import LocalStack
from tests.local.conftest import child_service
stack = LocalStack(services=[child_service(name="a"), child_service(name="b")])
stack.start()
told = {"pids": [s.pid for s in stack.status()], "targets": dict(stack.targets), "log": stack.status()[0].log}
Path(sys.argv[1]).write_text(json.dumps(told))
while True:
    time.sleep(1)
"""


def start_parent(tmp_path: Path) -> tuple[subprocess.Popen[bytes], dict[str, object]]:
    told = tmp_path / "told.json"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(told)], env=environment)
    until(lambda: told.exists() and told.read_text())
    return parent, json.loads(told.read_text())


def assert_all_gone(told: dict[str, object]) -> None:
    pids, targets = told["pids"], told["targets"]
    assert isinstance(pids, list)
    assert isinstance(targets, dict)
    until(lambda: not any(alive(pid) for pid in pids))
    until(
        lambda: not any(answers(target) for target in targets.values())
    )  # a killed process's threads end last


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent, told = start_parent(tmp_path)
    kill(parent.pid)
    parent.wait()
    assert_all_gone(told)


def test_children_die_with_a_parent_that_is_terminated(tmp_path: Path) -> None:
    parent, told = start_parent(tmp_path)
    parent.send_signal(signal.SIGTERM)
    parent.wait()
    assert_all_gone(told)


def test_children_end_with_a_parent_that_forgets_them_on_ctrl_c(tmp_path: Path) -> None:
    parent, told = start_parent(tmp_path)
    parent.send_signal(signal.SIGINT)
    parent.wait()
    assert_all_gone(told)
    assert not Path(str(told["log"])).exists()


def test_a_child_started_by_a_dead_parent_does_not_start() -> None:
    from pilothouse.local import tether

    ended = subprocess.run(
        [sys.executable, "-I", "-S", tether.__file__, "1", sys.executable, "-c", "print(1)"]
    )
    assert ended.returncode == 1
