"""One supervised service: started, watched, restarted on the ports it had."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pilothouse.errors import ConfigError, PilothouseError, ServiceStartError
from pilothouse.local import ports
from pilothouse.local.config import LocalConfig
from pilothouse.local.events import EventKind, ServiceStatus, StackEvent, State
from pilothouse.local.health import HealthProbe
from pilothouse.local.process import how_it_ended, last_line, send, spawn
from pilothouse.local.services import Endpoint, Service
from pilothouse.tls import Tls

_PORT_ATTEMPTS = 3
_CONFIG_EXIT = 2


class Child:
    """A service's process over all its lives. Driven by ``tick`` from one thread.

    Args:
        service: What to start.
        config: Backoff and patience.
        folder: Where log and port files go; must exist.
        taken: Ports promised in this stack; shared by all children, each adds its own.
        emit: Called with every event.
        tls: The stack's identity.
    """

    def __init__(
        self,
        service: Service,
        config: LocalConfig,
        folder: Path,
        taken: set[int],
        emit: Callable[[StackEvent], None],
        tls: Tls | None = None,
    ) -> None:
        self.service = service
        self.state: State = "waiting"
        self.failure: PilothouseError | None = None
        self.restarts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"{service.name}.log"
        self._config, self._folder, self._taken, self._emit_event = config, folder, taken, emit
        self._tls = tls
        self._ports: dict[str, tuple[int, int]] = {}
        self._attempts = 0
        self._ever_served = False
        self._losses = 0
        self._start_at = 0.0
        self._start_by = 0.0
        self._serving_since = 0.0
        self._log_start = 0
        self._detail = ""
        self._probe: HealthProbe | None = None

    @property
    def targets(self) -> dict[str, str]:
        """Name of each server → ``host:port``; fixed from the first start on."""
        return {
            end.name: f"{reachable(end.host)}:{self._ports[end.name][0]}" for end in self.service.endpoints
        }

    def status(self) -> ServiceStatus:
        """Returns how the service is now."""
        first = self.service.endpoints[0]
        http_port = self._ports[first.name][1] if self._ports else -1
        return ServiceStatus(
            name=self.service.name,
            state=self.state,
            pid=self.process.pid if self.process else None,
            restarts=self.restarts,
            targets=self.targets if self._ports else {},
            http=f"{reachable(first.host)}:{http_port}" if http_port > 0 else None,
            log=str(self.log),
            detail=self._detail,
        )

    def tick(self) -> None:
        """Looks once and does what is due; never waits."""
        now = time.monotonic()
        if self.state == "waiting" and now >= self._start_at:
            try:
                self._start()
            except OSError as error:  # no more processes, a full disk, a folder that somebody has removed
                self._not_started(error, now)
        if self.process is None:
            return
        code = self.process.poll()
        if code is not None:
            self._ended(code, now)
        elif self.state == "starting" and self._has_announced():
            self._serves(now)
        elif self._hangs(now):
            send(self.process, signal.SIGKILL)
        elif self._probe is not None:
            self._ask(self._probe, now)

    def terminate(self) -> None:
        """Asks the process to finish what runs and to end."""
        self._close_probe()
        if self.process is not None and self.process.poll() is None:
            send(self.process, signal.SIGTERM)
            send(self.process, signal.SIGCONT)  # a stopped process would never see it

    def finish(self, deadline: float) -> None:
        """Waits for the end until ``deadline`` (monotonic seconds), then kills."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            send(self.process, signal.SIGKILL)
            self.process.wait()
        self._emit("stopped", f"{self.service.name} stopped ({how_it_ended(self.process.returncode)})")
        self.process, self.state = None, "stopped"

    def _start(self) -> None:
        self._attempts += 1
        if not self._ports:
            self._ports = {end.name: self._choose(end) for end in self.service.endpoints}
        self.log.touch()
        self._log_start = self.log.stat().st_size
        settings: list[str] = []
        for end in self.service.endpoints:
            port, http_port = self._ports[end.name]
            self._port_file(end).unlink(missing_ok=True)
            settings += ["--set", f"{end.key}.port={port}", "--set", f"{end.key}.http_port={http_port}"]
            settings += ["--set", f"{end.key}.port_file={json.dumps(str(self._port_file(end)))}"]
        self.process = spawn([*self.service.command, *settings], self.log)
        self.state, self._start_by = "starting", time.monotonic() + self._config.start_timeout_seconds
        self._emit("starting", f"{self.service.name} starting (pid {self.process.pid})")

    def _choose(self, end: Endpoint) -> tuple[int, int]:
        chosen = []
        for wanted in (end.port, end.http_port):
            port = wanted or ports.free_port(self._taken)
            self._taken.add(port)
            chosen.append(port)
        return chosen[0], chosen[1]

    def _port_file(self, end: Endpoint) -> Path:
        return self._folder / f"{end.name}.port.json"

    def _has_announced(self) -> bool:
        """Whether every server has written its port file: each does so once it is SERVING."""
        return all(self._port_file(end).exists() for end in self.service.endpoints)

    def _serves(self, now: float) -> None:
        self.state, self._ever_served, self._serving_since = "serving", True, now
        if self._config.health_interval_seconds:
            target = self.targets[self.service.endpoints[0].name]
            self._probe = HealthProbe(
                target, self._config.health_interval_seconds, self._config.frozen_after_seconds, self._tls
            )
        self._emit("serving", f"{self.service.name} serving on {', '.join(self.targets.values())}")

    def _ask(self, probe: HealthProbe, now: float) -> None:
        silent = probe.silent_seconds(now)
        if silent and self.state == "serving":
            self.state = "frozen"
            self._emit("frozen", f"no answer from {self.service.name} for {silent:.0f} s")
        elif not silent and self.state == "frozen":
            self.state = "serving"
            self._emit("answering", f"{self.service.name} answers again")
        limit = self._config.restart_frozen_after_seconds
        if limit and silent >= limit and self.process is not None:
            send(self.process, signal.SIGKILL)

    def _hangs(self, now: float) -> bool:
        """Whether a restart has had its time; the first start's time is the stack's to watch."""
        return self.state == "starting" and self._ever_served and now >= self._start_by

    def _ended(self, code: int, now: float) -> None:
        process, self.process = self.process, None
        assert process is not None
        send(process, signal.SIGKILL)  # whatever it may have started itself
        self._close_probe()
        how = how_it_ended(code)
        if self._hangs(now):
            how = f"not serving after {self._config.start_timeout_seconds:g} s, {how}"
        if self._ever_served:
            self._lost(how, now)
        elif self._attempts < _PORT_ATTEMPTS and self._lost_a_port():
            self._ports = {}
            self.state = "waiting"
        else:
            self.state = "failed"
            self.failure = self._explain(code, how)
            self._emit("failed", str(self.failure))

    def _lost(self, how: str, now: float) -> None:
        if now - self._serving_since >= self._config.healthy_seconds and self.state != "starting":
            self._losses = 0
        wait = min(self._config.backoff_seconds * 2**self._losses, self._config.max_backoff_seconds)
        self._losses = min(self._losses + 1, 30)
        self.restarts += 1
        self.state, self._start_at = "waiting", now + wait * random.uniform(0.8, 1.0)
        self._emit("lost", f"{self.service.name} lost ({how}), restart {self.restarts} in {wait:.2g} s")

    def _not_started(self, error: OSError, now: float) -> None:
        """Tries again later where it has served before: the other services must not suffer for it."""
        if self._ever_served:
            self._lost(f"could not be started: {error}", now)
            return
        self.state = "failed"
        self.failure = ServiceStartError(f"{self.service.name} could not be started: {error}")
        self._emit("failed", str(self.failure))

    def _lost_a_port(self) -> bool:
        """Whether somebody else now listens on a port that was chosen here."""
        chosen = [
            port
            for end in self.service.endpoints
            for wanted, port in zip((end.port, end.http_port), self._ports[end.name], strict=True)
            if wanted == 0
        ]
        return not all(ports.is_free(port) for port in chosen)

    def _explain(self, code: int, how: str) -> PilothouseError:
        said = last_line(self.log, self._log_start)
        text = f"{said or 'it wrote nothing'} [{self.service.name} ended with {how}; log: {self.log}]"
        return ConfigError(text) if code == _CONFIG_EXIT else ServiceStartError(text)

    def _close_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def _emit(self, kind: EventKind, text: str) -> None:
        self._detail = text
        pid = self.process.pid if self.process else None
        self._emit_event(StackEvent(self.service.name, kind, text, time.time(), pid, self.restarts))


def reachable(host: str) -> str:
    """Returns the address under which this machine reaches a server that listens on ``host``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
