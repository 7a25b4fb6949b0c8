"""Fixtures that every area shares."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Hears Ctrl-C, as tests and what they start must, also as a shell's background job, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def require(condition: object, what: str) -> None:
    """Skips the test where a prerequisite is missing; fails it when CI=true."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing prerequisite: {what}", pytrace=False)
    pytest.skip(f"missing prerequisite: {what}")


@pytest.fixture(scope="session", name="require")
def _require() -> Callable[[object, str], None]:
    """``require(condition, what)``: skip without a prerequisite, fail on CI."""
    return require


@pytest.fixture
def no_identity() -> Iterator[None]:
    """Whatever identity the test makes this process adopt, it is gone afterwards."""
    from pilothouse.tls import adopt

    yield
    adopt()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder of the built-in tiny model."""
    from pilothouse.models.tiny import save_tiny

    folder = tmp_path_factory.mktemp("tiny")
    save_tiny(folder, seed=0)
    return folder
