"""The process behind ``pilothouse up``, ``python -m pilothouse.local.supervisor``: a stack until SIGTERM."""

import argparse
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from pilothouse.errors import PilothouseError
from pilothouse.local.config import LocalConfig
from pilothouse.local.events import StackEvent
from pilothouse.local.stack import LocalStack
from pilothouse.local.state import StackState, own_state, remove_state, sole_supervisor, write_state
from pilothouse.sections import load_section

_LISTEN_SECONDS = 1.0


def state_folder(file: Path | None, overrides: Sequence[str]) -> Path:
    """Returns the folder that the configuration gives to the stack's state, absolute.

    Raises:
        ConfigError: The section ``local`` has an error.
    """
    config = load_section("local", file=file, overrides=overrides)
    assert isinstance(config, LocalConfig)
    return config.state_dir.resolve()


class Supervisor:
    """A stack with its state file, in the main thread of this process.

    Args:
        file: Configuration file.
        overrides: ``section.key=value`` settings.
        services: Which services; None takes ``local.services``.
        on_event: Called with every event.
    """

    def __init__(
        self,
        file: Path | None = None,
        overrides: Sequence[str] = (),
        services: Sequence[str] | None = None,
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> None:
        self.folder = state_folder(file, overrides)
        self._file, self._overrides, self._services = file, overrides, services
        self._on_event = on_event

    def run(self) -> None:
        """Runs the stack until SIGTERM, SIGINT or SIGHUP; a second one kills the services at once.

        Raises:
            StackError: A stack is already running in the folder.
            PilothouseError: The stack could not start; the state file says the same.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _interrupt)
        with sole_supervisor(self.folder):
            state = own_state(self._file, self._overrides)
            write_state(self.folder, state)
            try:
                self._supervise(state)
            except KeyboardInterrupt:
                remove_state(self.folder)
            except PilothouseError as error:
                failed = dataclasses.replace(state, failure=str(error), failure_reason=error.reason)
                write_state(self.folder, failed)
                raise

    def _supervise(self, state: StackState) -> None:
        def heard(event: StackEvent) -> None:
            write_state(self.folder, dataclasses.replace(state, services=stack.status()))
            if self._on_event is not None:
                self._on_event(event)

        stack = LocalStack(
            self._file, self._overrides, services=self._services, folder=self.folder, on_event=heard
        )
        with stack:
            while True:  # until a signal raises; one that comes as a sleep begins is heard after it
                time.sleep(_LISTEN_SECONDS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a supervisor; what goes wrong stands in the state file for the process that started it."""
    parser = argparse.ArgumentParser(prog="python -m pilothouse.local.supervisor", description=main.__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--service", dest="services", action="append")
    options = parser.parse_args(arguments)

    def tell(event: StackEvent) -> None:
        sys.stderr.write(f"{event.text}\n")

    try:
        Supervisor(options.config, options.overrides, options.services, tell).run()
    except PilothouseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
