"""What the end-to-end run concludes from the answers of its probe."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "deploy/e2e/verdicts.py"


@pytest.fixture(scope="module")
def verdicts() -> Any:
    found = importlib.util.spec_from_file_location("verdicts", FILE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def answer(at: float, pod: str, *version: int) -> dict[str, Any]:
    return {"asked": at, "told": at + 0.01, "pod": pod, "answers": list(version) or None}


def test_a_late_pod_with_the_current_version_is_well(verdicts: Any) -> None:
    found = [answer(0, "a", 1, 4), answer(0.1, "b"), answer(1, "a", 1, 5), answer(1.1, "b", 1, 5)]
    assert verdicts.late_pods_that_answered_old(found) == (["b"], [])


def test_while_a_push_is_being_committed_two_versions_are_current(verdicts: Any) -> None:
    found = [answer(0, "a", 1, 4), answer(0.1, "b", 1, 4), answer(1, "a", 1, 5), answer(1.1, "b", 1, 4)]
    assert verdicts.late_pods_that_answered_old(found)[1] == []


def test_the_version_before_is_stale_once_the_moment_has_passed(verdicts: Any) -> None:
    old = answer(3.2, "b", 1, 4)
    found = [answer(0, "a", 1, 4), answer(1, "a", 1, 5), answer(2.9, "a", 1, 5), old]
    assert verdicts.late_pods_that_answered_old(found)[1] == [old]


@pytest.mark.parametrize("version", [(1, 3), (0, 0), (0, 9)])
def test_anything_older_is_stale_at_once(verdicts: Any, version: tuple[int, int]) -> None:
    old = answer(1.1, "b", *version)
    found = [answer(0, "a", 1, 4), answer(1, "a", 1, 5), old]
    assert verdicts.late_pods_that_answered_old(found)[1] == [old]


def test_the_first_pod_is_not_late_and_one_that_is_gone_says_nothing(verdicts: Any) -> None:
    found = [answer(0, "a", 1, 9), answer(5, "b", 1, 4), answer(5.1, "a", 1, 1)]
    assert verdicts.late_pods_that_answered_old(found) == (["b"], [])
