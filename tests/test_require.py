"""A prerequisite that is missing is a failure on CI and a skip elsewhere."""

from collections.abc import Callable

import pytest

Require = Callable[[object, str], None]


def test_a_missing_prerequisite_fails_on_ci(require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="missing prerequisite: a lighthouse"):
        require(False, "a lighthouse")


@pytest.mark.parametrize("ci", [None, "", "false"])
def test_a_missing_prerequisite_is_skipped_elsewhere(
    require: Require, monkeypatch: pytest.MonkeyPatch, ci: str | None
) -> None:
    monkeypatch.delenv("CI", raising=False)
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="missing prerequisite: a lighthouse"):
        require(False, "a lighthouse")


@pytest.mark.parametrize("ci", ["true", "false"])
def test_a_prerequisite_that_is_there_lets_the_test_run(
    require: Require, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    require(["a lighthouse"], "a lighthouse")
