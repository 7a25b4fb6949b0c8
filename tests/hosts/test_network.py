"""The test bench itself: it leaves nothing behind."""

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
    network.sweep()
    left.communicate()
    assert name not in network.run("ip", "netns", "list")


def test_a_network_that_is_closed_is_gone(require: Callable[[object, str], None]) -> None:
    require(not network.missing(), network.missing())
    before = network.run("ip", "netns", "list")
    with Network():
        assert network.run("ip", "netns", "list") != before
    assert network.run("ip", "netns", "list") == before
