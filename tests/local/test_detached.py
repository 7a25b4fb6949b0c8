import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.local.conftest import alive, answers, kill, until

from pilothouse.errors import ConfigError, ServiceStartError, StackError
from pilothouse.local import detached
from pilothouse.local.state import StackState, read_state, running_state, write_state

OVERRIDES = ["reward.backend=rules", "local.services=['reward']"]


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """A stack of the reward service with rules: real, and free of models."""
    return [*OVERRIDES, f"local.state_dir={json.dumps(str(tmp_path / 'state'))}"]


def test_up_and_down_leave_no_process_no_port_and_no_state(tmp_path: Path, overrides: list[str]) -> None:
    state = detached.start(None, overrides)
    try:
        assert state.is_serving
        assert os.getsid(state.pid) == state.pid
        pids = [state.pid, *(service.pid for service in state.services)]
        targets = [target for service in state.services for target in service.targets.values()]
    finally:
        detached.stop(None, overrides)
    assert not any(alive(pid) for pid in pids if pid)
    assert not any(answers(target) for target in targets)
    assert read_state(tmp_path / "state") is None


def test_a_second_up_in_the_same_folder_is_refused(overrides: list[str]) -> None:
    detached.start(None, overrides)
    try:
        with pytest.raises(StackError, match=r"already running .* `pilothouse down` stops it"):
            detached.start(None, overrides)
    finally:
        detached.stop(None, overrides)


def test_down_without_a_stack_says_how_to_start_one(overrides: list[str]) -> None:
    with pytest.raises(StackError, match="start one with `pilothouse up`"):
        detached.stop(None, overrides)


def test_killing_the_supervisor_takes_the_services_with_it(tmp_path: Path, overrides: list[str]) -> None:
    state = detached.start(None, overrides)
    kill(state.pid)
    until(lambda: not any(alive(service.pid) for service in state.services if service.pid))
    with pytest.raises(StackError):
        running_state(tmp_path / "state")
    again = detached.start(None, overrides)
    detached.stop(None, overrides)
    assert again.pid != state.pid


def test_the_state_file_follows_a_restart(tmp_path: Path, overrides: list[str]) -> None:
    state = detached.start(None, overrides)
    try:
        kill(state.services[0].pid)

        def restarted() -> bool:
            now = running_state(tmp_path / "state")
            return now.is_serving and now.services[0].restarts == 1

        until(restarted)
        assert running_state(tmp_path / "state").services[0].targets == state.services[0].targets
    finally:
        detached.stop(None, overrides)


def test_a_supervisor_that_does_not_end_is_killed(overrides: list[str]) -> None:
    state = detached.start(None, overrides)
    os.kill(state.pid, signal.SIGSTOP)
    detached.stop(None, overrides, timeout_seconds=0.1)
    until(lambda: not any(alive(pid) for pid in [state.pid, state.services[0].pid] if pid))


def test_a_wrong_setting_is_told_by_the_same_error(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key reward.bakend; did you mean 'backend'"):
        detached.start(None, [*overrides, "reward.bakend=rules"])


def test_a_missing_model_is_told_with_the_log(overrides: list[str]) -> None:
    wrong = [*overrides, "reward.backend=onnx", "reward.model=/nowhere"]
    with pytest.raises((ServiceStartError, ConfigError), match=r"nowhere.*log: "):
        detached.start(None, wrong)


def test_a_state_file_of_another_life_of_the_pid_is_not_trusted(tmp_path: Path) -> None:
    write_state(tmp_path, StackState(os.getpid(), psutil.Process().create_time() - 100))
    with pytest.raises(StackError):
        running_state(tmp_path)


def test_a_broken_state_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    assert read_state(tmp_path) is None


def test_ctrl_c_in_the_foreground_stops_everything(tmp_path: Path, overrides: list[str]) -> None:
    words = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "pilothouse.cli.main", "up", "--foreground", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: (state := read_state(tmp_path / "state")) is not None and state.is_serving)
    services = running_state(tmp_path / "state").services
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 0
    assert b"reward serving on" in told
    assert not any(alive(service.pid) for service in services if service.pid)
    assert read_state(tmp_path / "state") is None


def test_ctrl_c_while_starting_leaves_nothing_behind(tmp_path: Path, overrides: list[str]) -> None:
    words = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "pilothouse.cli.main", "up", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: (state := read_state(tmp_path / "state")) is not None and state.services)
    state = read_state(tmp_path / "state")
    assert state is not None
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode in (0, 130)  # 0: the service was serving by then
    if process.returncode == 0:
        detached.stop(None, overrides)
    assert not any(alive(pid) for pid in [state.pid, *(service.pid for service in state.services)] if pid)
