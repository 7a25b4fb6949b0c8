"""A stack of small real servers."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pilothouse.local import Endpoint, LocalStack, Service

CHILD = Path(__file__).with_name("service_child.py")


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for a condition; fails the test when it never comes true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("condition never came true")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def answers(target: str) -> bool:
    """Whether somebody listens at ``host:port``."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(target.rpartition(":")[2]))) == 0


def kill(pid: int | None) -> None:
    """kill -9."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def child_service(mood: str = "good", *, port: int = 0, name: str = "child") -> Service:
    """The small service, with two gRPC ports and one HTTP port."""
    return Service(
        name,
        (sys.executable, str(CHILD), "--set", f"child.mood={mood}"),
        (
            Endpoint(f"{name}-first", "child.server", port=port, http_port=0),
            Endpoint(f"{name}-second", "child.second_server"),
        ),
    )


@pytest.fixture
def stack(tmp_path: Path) -> LocalStack:
    """A stack of one service, not started."""
    overrides = ["local.health_interval_seconds=0.2", "local.frozen_after_seconds=0.5"]
    return LocalStack(services=[child_service()], overrides=overrides, folder=tmp_path / "stack")
