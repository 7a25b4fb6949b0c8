"""The feedback service as a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Process:
    """A running service."""

    target: str
    handle: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self.handle.send_signal(signal.SIGKILL)
        self.handle.wait()

    def stop(self) -> int:
        """Asks it to end and returns its exit status."""
        self.handle.send_signal(signal.SIGTERM)
        return self.handle.wait(30)


@contextmanager
def process(folder: Path, url: str, *, port: int = 0, **settings: object) -> Iterator[Process]:
    """Runs ``python -m pilothouse.feedback`` until the end of the block."""
    port_file, log = folder / "port.json", folder / "log"
    port_file.unlink(missing_ok=True)
    given = {
        "database": url,
        "server.port": port,
        "server.http_port": -1,
        "server.port_file": port_file,
        "page.port": -1,
    } | {key.replace("__", "."): value for key, value in settings.items()}
    command = [sys.executable, "-m", "pilothouse.feedback"]
    for key, value in given.items():
        command += ["--set", f"feedback.{key}={value}"]
    with log.open("ab") as output:
        handle = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while not port_file.exists():
            assert handle.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        found = json.loads(port_file.read_text())
        yield Process(f"127.0.0.1:{found['port']}", handle, log)
    finally:
        if handle.poll() is None:
            handle.kill()
            handle.wait()
