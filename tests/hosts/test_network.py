"""The test bench itself: it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.hosts import network
from tests.hosts.network import PREFIX, Network

pytestmark = pytest.mark.hosts


def test_what_a_killed_run_has_left_goes_with_the_next(require: Callable[[object, str], None]) -> None:
    require(not network.missing(), network.missing())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = f"{PREFIX}-{dead.pid}-services"
    network.run("ip", "netns", "add", name)
    left = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    assert name in network.run("ip", "netns", "list")
    network.sweep()
    left.communicate()
    assert left.returncode == -signal.SIGKILL
    assert name not in network.run("ip", "netns", "list")


def test_a_network_that_is_closed_is_gone(require: Callable[[object, str], None]) -> None:
    require(not network.missing(), network.missing())
    own = f"{PREFIX}-{os.getpid()}-"  # another run has its own beside it
    with Network():
        assert own in network.run("ip", "netns", "list")
    assert own not in network.run("ip", "netns", "list")
