import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.local.conftest import alive, answers, child_service, kill, until

from pilothouse.errors import ConfigError, ServiceStartError
from pilothouse.local import LocalStack, StackEvent


def health(target: str) -> int:
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest()
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=20, wait_for_ready=True).status)


def test_a_started_stack_serves_on_every_target(stack: LocalStack) -> None:
    with stack:
        assert list(stack.targets) == ["child-first", "child-second"]
        for target in stack.targets.values():
            assert health(target) == health_pb2.HealthCheckResponse.SERVING
        (status,) = stack.status()
        assert status.state == "serving"
        with urlopen(f"http://{status.http}/readyz") as answer:
            assert answer.status == 200


def test_stopping_leaves_no_process_and_no_port(stack: LocalStack) -> None:
    with stack:
        pid = stack.status()[0].pid
        targets = list(stack.targets.values())
    assert pid is not None
    assert not alive(pid)
    assert not any(answers(target) for target in targets)
    assert [event.kind for event in stack.events] == ["starting", "serving", "stopped"]
    assert "exit status 0" in stack.events[-1].text


def test_a_killed_service_comes_back_on_the_same_ports(stack: LocalStack) -> None:
    with stack:
        before = dict(stack.targets)
        for life in (1, 2, 3):
            pid = stack.status()[0].pid
            kill(pid)
            until(lambda life=life: [event.kind for event in stack.events].count("serving") == life + 1)
            assert stack.status()[0].pid != pid
        assert stack.targets == before
        assert all(health(target) == health_pb2.HealthCheckResponse.SERVING for target in before.values())
        assert stack.status()[0].restarts == 3


def test_a_service_that_cannot_be_started_again_is_tried_until_it_can(
    stack: LocalStack, tmp_path: Path
) -> None:
    folder, aside = tmp_path / "stack", tmp_path / "aside"
    with stack:
        folder.rename(aside)
        kill(stack.status()[0].pid)
        until(lambda: any("could not be started" in event.text for event in stack.events))
        aside.rename(folder)
        until(lambda: [event.kind for event in stack.events].count("serving") == 2)


def test_a_first_start_that_the_system_refuses_is_told(tmp_path: Path) -> None:
    unstartable = LocalStack(services=[child_service()], folder=tmp_path / "stack")
    (tmp_path / "stack" / "child.log").mkdir(parents=True)
    with pytest.raises(ServiceStartError, match="could not be started"):
        unstartable.start()


def test_losing_a_service_is_told_with_its_signal_and_the_wait(stack: LocalStack) -> None:
    heard: list[StackEvent] = []
    stack._on_event = heard.append
    with stack:
        kill(stack.status()[0].pid)
        until(lambda: any(event.kind == "lost" for event in heard))
    lost = next(event for event in heard if event.kind == "lost")
    assert lost.text.startswith("child lost (signal 9 (SIGKILL)), restart 1 in")


def test_a_listener_that_fails_does_not_end_the_supervision(stack: LocalStack) -> None:
    def fail(event: StackEvent) -> None:
        raise RuntimeError(event.kind)

    stack._on_event = fail
    with stack:
        kill(stack.status()[0].pid)
        until(lambda: [event.kind for event in stack.events].count("serving") == 2)


def test_restarts_wait_longer_with_every_loss(tmp_path: Path) -> None:
    overrides = ["local.backoff_seconds=0.05", "local.max_backoff_seconds=0.1"]
    stack = LocalStack(services=[child_service()], overrides=overrides, folder=tmp_path)
    with stack:
        for life in (1, 2, 3):
            kill(stack.status()[0].pid)
            until(lambda life=life: [event.kind for event in stack.events].count("serving") == life + 1)
    waits = [event.text.rpartition(" in ")[2] for event in stack.events if event.kind == "lost"]
    assert waits == ["0.05 s", "0.1 s", "0.1 s"]


def test_a_frozen_service_is_reported_and_so_is_its_return(stack: LocalStack) -> None:
    with stack:
        pid = stack.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        until(lambda: stack.status()[0].state == "frozen")
        os.kill(pid, signal.SIGCONT)
        until(lambda: stack.status()[0].state == "serving")
    kinds = [event.kind for event in stack.events]
    assert kinds == ["starting", "serving", "frozen", "answering", "stopped"]
    assert "no answer from child" in stack.events[2].text


def test_a_frozen_service_is_restarted_where_that_is_asked_for(tmp_path: Path) -> None:
    overrides = [
        "local.health_interval_seconds=0.1",
        "local.frozen_after_seconds=0.3",
        "local.restart_frozen_after_seconds=0.5",
    ]
    stack = LocalStack(services=[child_service()], overrides=overrides, folder=tmp_path)
    with stack:
        pid = stack.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        until(lambda: [event.kind for event in stack.events].count("serving") == 2)
        assert not alive(pid)


def test_a_frozen_service_can_still_be_stopped(stack: LocalStack) -> None:
    with stack:
        pid = stack.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


def test_a_service_that_cannot_start_says_why_and_takes_the_others_down(tmp_path: Path) -> None:
    services = [child_service(name="good"), child_service("missing", name="bad")]
    stack = LocalStack(services=services, folder=tmp_path)
    with pytest.raises(ServiceStartError, match="no model in 'nowhere'"):
        stack.start()
    assert all(status.pid is None for status in stack.status())
    assert {status.state for status in stack.status()} <= {"stopped", "failed"}


def test_wrong_settings_of_a_service_are_a_config_error(tmp_path: Path) -> None:
    service = child_service()
    wrong = type(service)(service.name, (*service.command, "--set", "child.modo=good"), service.endpoints)
    stack = LocalStack(services=[wrong], folder=tmp_path)
    with pytest.raises(ConfigError, match=r"unknown key child\.modo; did you mean 'mood'"):
        stack.start()


def test_a_service_that_never_serves_is_given_up_after_the_time_allowed(tmp_path: Path) -> None:
    overrides = ["local.start_timeout_seconds=1", "local.stop_timeout_seconds=0"]
    stack = LocalStack(services=[child_service("slow")], overrides=overrides, folder=tmp_path)
    with pytest.raises(
        ServiceStartError, match=r"not serving after 1 s: child.*raise local.start_timeout_seconds"
    ):
        stack.start()
    assert stack.status()[0].pid is None


def test_a_restarted_service_that_hangs_while_starting_is_killed_and_started_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    stack = LocalStack(services=[child_service(f"hang-second:{starts}")], folder=tmp_path / "stack")
    with stack:
        kill(stack.status()[0].pid)
        until(lambda: starts.read_text() == "xx")
        late = SimpleNamespace(monotonic=lambda: time.monotonic() + 300, time=time.time)
        monkeypatch.setattr("pilothouse.local.child.time", late)  # the time allowed has passed
        until(lambda: [event.kind for event in stack.events].count("serving") == 2)
    lost = [event.text for event in stack.events if event.kind == "lost"]
    assert len(lost) == 2
    assert lost[1].startswith("child lost (not serving after 300 s, signal 9 (SIGKILL)), restart 2 in")


def test_a_fixed_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        stack = LocalStack(services=[child_service(port=port)], folder=tmp_path)
        with pytest.raises(ConfigError, match=rf"child.server.port: port {port} is in use"):
            stack.start()
    assert stack.events == []


def test_a_first_start_that_dies_is_not_retried_for_ever(tmp_path: Path) -> None:
    stack = LocalStack(services=[child_service(f"die-once:{tmp_path / 'marker'}")], folder=tmp_path / "stack")
    with pytest.raises(ServiceStartError, match="signal 9"):
        stack.start()


def test_a_service_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    overrides = ["local.stop_timeout_seconds=0.5"]
    stack = LocalStack(services=[child_service("deaf")], overrides=overrides, folder=tmp_path)
    with stack:
        pid = stack.status()[0].pid
    assert pid is not None
    assert not alive(pid)
    assert "SIGKILL" in stack.events[-1].text


def test_ctrl_c_in_the_terminal_does_not_reach_the_services(stack: LocalStack) -> None:
    with stack:
        pid = stack.status()[0].pid
        assert pid is not None
        assert os.getpgid(pid) == pid != os.getpgid(0)
        assert os.getsid(pid) == pid
        assert psutil.Process(pid).ppid() == os.getpid()


def test_an_own_folder_is_removed_at_the_end() -> None:
    stack = LocalStack(services=[child_service()])
    with stack:
        folder = Path(stack.status()[0].log).parent
        assert folder.is_dir()
    assert not folder.exists()
