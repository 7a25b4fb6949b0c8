"""The embedded stack: supervised child processes behind one context manager."""

import atexit
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pilothouse.config import load_optional
from pilothouse.errors import ConfigError, ServiceStartError
from pilothouse.local.child import Child, reachable
from pilothouse.local.config import LocalConfig
from pilothouse.local.events import ServiceStatus, StackEvent
from pilothouse.local.ports import is_free
from pilothouse.local.services import Service, configured
from pilothouse.sections import check_names, load_section
from pilothouse.tls import Tls
from pilothouse.tls.proof import prove

_log = structlog.get_logger()
_TICK_SECONDS = 0.05


class LocalStack:
    """Runs services as child processes on loopback and restarts the ones that die, on the same ports.

    The children end with this process, however it ends. ``with LocalStack(file=...) as stack`` starts them,
    waits until all are serving, and stops them at the end; ``stack.targets`` says where they listen, and
    ``stack.tls`` is the identity with which they are called.

    Args:
        file: Configuration file given to every service.
        overrides: ``section.key=value`` settings given to every service.
        services: Which ones; None takes ``local.services`` of the configuration.
        folder: Where logs and port files go; None makes a folder that is removed at the end.
        on_event: Called from the supervising thread with every event; must not block.

    Raises:
        ConfigError: A section or setting is unknown or out of range.
    """

    def __init__(
        self,
        file: Path | None = None,
        overrides: Sequence[str] = (),
        *,
        services: Sequence[str | Service] | None = None,
        folder: Path | None = None,
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> None:
        check_names(file, overrides)
        config = load_section("local", file=file, overrides=overrides)
        assert isinstance(config, LocalConfig)
        self.config = config
        self.tls = load_optional(Tls, "tls", file=file, overrides=overrides)
        """Section ``tls`` of the configuration, which the services have too; None for plaintext."""
        self.services = [
            service if isinstance(service, Service) else configured(service, file=file, overrides=overrides)
            for service in (config.services if services is None else services)
        ]
        self.events: list[StackEvent] = []
        self._temporary = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="pilothouse-"))
        self._on_event = on_event
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stopping, self._forced = threading.Event(), threading.Event()
        ends = [end for service in self.services for end in service.endpoints]
        taken = {port for end in ends for port in (end.port, end.http_port)}
        self._children = [
            Child(each, config, self._folder, taken, self._record, self.tls) for each in self.services
        ]
        self._thread = threading.Thread(target=self._supervise, name="pilothouse-stack", daemon=True)

    @property
    def targets(self) -> Mapping[str, str]:
        """Server (``policy``, ``weights``, ``reward``, ``reference``) → ``host:port``; fixed once started."""
        with self._lock:
            return {name: target for child in self._children for name, target in child.targets.items()}

    def status(self) -> list[ServiceStatus]:
        """Returns how every service is now."""
        with self._lock:
            return [child.status() for child in self._children]

    def start(self) -> None:
        """Starts the services and waits until all are serving.

        Raises:
            ConfigError: A fixed port is taken, the certificate does not name this machine's address, or a
                service refused its settings.
            ServiceStartError: A service ended before it was serving, or took too long; all are stopped.
        """
        self._check_fixed_ports()
        self._check_certificate()
        self._folder.mkdir(parents=True, exist_ok=True)
        atexit.register(self.stop)
        self._thread.start()
        try:
            self._wait_until_serving()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the services: SIGTERM, time to finish, then SIGKILL. A second Ctrl-C kills at once."""
        atexit.unregister(self.stop)
        self._stopping.set()
        try:
            if self._thread.is_alive():
                self._thread.join()
        except KeyboardInterrupt:
            self._forced.set()
            self._thread.join()
            raise
        finally:
            if self._temporary:
                shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _check_fixed_ports(self) -> None:
        for service in self.services:
            for end in service.endpoints:
                for key, port in ((f"{end.key}.port", end.port), (f"{end.key}.http_port", end.http_port)):
                    if port > 0 and not is_free(port, end.host):
                        raise ConfigError(
                            f"{key}: port {port} is in use on {end.host}; stop what listens there "
                            "(`pilothouse doctor` names it), or choose another port, or 0 for any"
                        )

    def _check_certificate(self) -> None:
        """Refuses a certificate with which the services would serve and nobody here could call them."""
        if self.tls is None:
            return
        for host in {end.host for service in self.services for end in service.endpoints}:
            prove(self.tls, "server", host=self.tls.server_name or reachable(host).strip("[]"))

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + self.config.start_timeout_seconds
        with self._changed:
            while not all(child.state == "serving" for child in self._children):
                for child in self._children:
                    if child.failure is not None:
                        raise child.failure
                if not self._changed.wait(deadline - time.monotonic()):
                    late = [child.service.name for child in self._children if child.state != "serving"]
                    raise ServiceStartError(
                        f"not serving after {self.config.start_timeout_seconds:g} s: {', '.join(late)}; "
                        f"see the logs in {self._folder}, or raise local.start_timeout_seconds"
                    )

    def _supervise(self) -> None:
        """The thread that owns the children: the kernel kills them when it ends (see `tether`)."""
        try:
            while not self._stopping.wait(_TICK_SECONDS):
                with self._lock:
                    for child in self._children:
                        child.tick()
        finally:
            self._shut_down()

    def _shut_down(self) -> None:
        deadline = time.monotonic() + self.config.stop_timeout_seconds
        for child in self._children:
            child.terminate()
        while time.monotonic() < deadline and not self._forced.wait(_TICK_SECONDS):
            if all(child.process is None or child.process.poll() is not None for child in self._children):
                break
        for child in self._children:
            child.finish(time.monotonic())

    def _record(self, event: StackEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:  # supervision must outlive a listener's mistake
                _log.exception("listener failed", service=event.service, kind=event.kind)
