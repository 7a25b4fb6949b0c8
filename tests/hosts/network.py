"""Two hosts and the switch between them, as network namespaces: real interfaces, real packets, real cuts.

Whatever goes wrong goes wrong in the switch, as in a machine room: the hosts find out by themselves.
Needs root and iproute2. Nothing is visible outside the namespaces, and addresses are those for documentation.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "pilothouse-test"
HOSTS = {"services": "192.0.2.1", "trainer": "192.0.2.2"}
"""Addresses by name."""
SWITCH = "switch"
WIRE = "wire"
"""Name of a host's interface; the switch's ports have the names of the hosts that they lead to."""

_NAME = re.compile(rf"{PREFIX}-([0-9]+)-(?:{'|'.join([*HOSTS, SWITCH])})")
_LOOK_SECONDS = 0.02


class Network:
    """The hosts ``services`` and ``trainer``; they go with the block, after a kill -9 with the next one."""

    def __init__(self) -> None:
        self._names = {place: f"{PREFIX}-{os.getpid()}-{place}" for place in (*HOSTS, SWITCH)}
        self._relay: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        sweep()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs on the hosts, and the hosts."""
        self._end_relay()
        for name in self._names.values():
            remove(name)

    def on(self, place: str) -> tuple[str, ...]:
        """Returns what goes before a command so that it runs there."""
        return (program("ip"), "netns", "exec", self._names[place])

    def unplug(self, place: str) -> None:
        """Pulls a host's cable: it sees its carrier gone, the other host sees nothing."""
        self._ip(SWITCH, "link", "set", place, "down")

    def swallow(self, *places: str) -> None:
        """Lets packets towards these hosts vanish without a word, as a broken switch or firewall does."""
        for place in places:
            self._qdisc(place, "blackhole")

    def slow_down(self, kbit: int) -> None:
        """Limits what goes towards the services to so many kilobits a second; the queue holds 200 ms."""
        self._qdisc("services", "tbf", "rate", f"{kbit}kbit", "burst", "4kb", "latency", "200ms")

    def move_apart(self, *, delay_seconds: float, loss: float) -> None:
        """Puts a long bad line between the hosts, which delays every packet and loses this share of them."""
        for place in HOSTS:
            self._ip(SWITCH, "link", "set", place, "nomaster")
        script = [sys.executable, str(Path(__file__).with_name("relay.py"))]
        command = [*self.on(SWITCH), *script, *HOSTS, str(delay_seconds), str(loss)]
        self._relay = subprocess.Popen(command)

    def mend(self) -> None:
        """Makes the network whole and fast again."""
        self._end_relay()
        for place in HOSTS:
            self._qdisc(place, "pfifo")
            self._ip(SWITCH, "link", "set", place, "master", "bridge", "up")

    def received_bytes(self, place: str) -> int:
        """Returns how much has arrived at a host since it exists."""
        told = self._ip(place, "-s", "-o", "link", "show", WIRE)
        return int(told.partition("RX:")[2].partition("\\")[2].split()[0])

    def wait_for_bytes(self, place: str, count: int) -> None:
        """Returns when so many bytes more have arrived at a host."""
        wanted = self.received_bytes(place) + count
        while self.received_bytes(place) < wanted:
            time.sleep(_LOOK_SECONDS)

    def _build(self) -> None:
        for name in self._names.values():
            run("ip", "netns", "add", name)
        self._ip(SWITCH, "link", "add", "bridge", "type", "bridge")
        self._ip(SWITCH, "link", "set", "bridge", "up")
        for place, address in HOSTS.items():
            # One packet on the wire is one packet for whoever loses or delays it, and not 64 KiB of them.
            plain = ("gso_max_segs", "1")
            peer = ("type", "veth", "peer", "name", place, "netns", self._names[SWITCH])
            self._ip(place, "link", "add", WIRE, *plain, *peer)
            self._ip(SWITCH, "link", "set", place, *plain)
            self._ip(place, "address", "add", f"{address}/24", "dev", WIRE)
            for interface in ("lo", WIRE):
                self._ip(place, "link", "set", interface, "up")
        self.mend()

    def _ip(self, place: str, *words: str) -> str:
        return run("ip", "-n", self._names[place], *words)

    def _qdisc(self, place: str, *words: str) -> None:
        run("tc", "-n", self._names[SWITCH], "qdisc", "replace", "dev", place, "root", *words)

    def _end_relay(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.kill()
            relay.wait()


def missing() -> str:
    """Returns what this machine lacks for it, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces: Linux and root"
    if not all(map(shutil.which, ("ip", "tc"))):
        return "ip and tc (package iproute2)"
    try:
        with Network() as network:
            network.slow_down(kbit=1000)
            network.swallow("trainer")
    except RuntimeError as error:
        return f"network namespaces, which this machine refuses ({error})"
    return ""


def sweep() -> None:
    """Removes what test runs that were killed have left."""
    for line in run("ip", "netns", "list").splitlines():
        found = _NAME.fullmatch(line.split()[0]) if line.strip() else None
        if found and not Path(f"/proc/{found[1]}").exists():
            remove(found[0])


def remove(name: str) -> None:
    """Ends the processes of a namespace and removes it; it need not exist."""
    with suppress(RuntimeError):
        for pid in run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "delete", name)


def program(name: str) -> str:
    """Returns where a program lies."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def run(*command: str) -> str:
    """Runs a command and returns what it says; what goes wrong is a RuntimeError with its own words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
