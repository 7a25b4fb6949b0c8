"""The command line in this process, packages with entry points, and a real stack of tiny services."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The output as one JSON document."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        """The output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line."""

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        told = capfd.readouterr()
        return Ran(status, told.out, told.err)

    return call


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], Path]:
    """Puts a package with one entry point on the path: ``install(group, name, value)`` returns its folder."""

    def put(group: str, name: str, value: str) -> Path:
        folder = tmp_path / f"site-{name}"
        information = folder / f"theirs_{name}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: theirs-{name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return put


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file for tiny services with a state folder of their own."""
    folder = tmp_path_factory.mktemp("stack")
    file = folder / "pilothouse.toml"
    file.write_text(
        f"""
        [local]
        state_dir = {json.dumps(str(folder / "state"))}
        [policy]
        threads = 1
        max_running = 4
        max_sequence_tokens = 64
        [reward]
        backend = "rules"
        rule = {{ kind = "length", minimum = 2, maximum = 4 }}
        [reference]
        threads = 1
        """
    )
    return file


@pytest.fixture(scope="session")
def up(settings: Path) -> Iterator[Path]:
    """The same file, while `pilothouse up` holds."""
    assert main(["up", "--config", str(settings)]) == 0
    yield settings
    assert main(["down", "--config", str(settings)]) == 0
