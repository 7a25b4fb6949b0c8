"""What the extras in pyproject.toml bring together."""

import tomllib
from itertools import combinations
from pathlib import Path

from pilothouse.cli.doctor.machine import RUNTIMES, needed_by

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [f'{line}; extra == "{extra}"' for extra, lines in EXTRAS.items() for line in lines]


def runtimes(*extras: str) -> set[str]:
    return {name for extra in extras for name in needed_by(extra, REQUIREMENTS)} & set(RUNTIMES)


def test_training_on_a_machine_with_a_gpu_brings_one_build_of_onnxruntime() -> None:
    assert runtimes("policy", "reference", "reward-gpu", "reward-torch", "trainer") == {"onnxruntime-gpu"}
    assert runtimes("all") == {"onnxruntime"}


def test_extras_that_bring_both_builds_of_onnxruntime_are_declared_as_conflicts() -> None:
    declared = {frozenset(part["extra"] for part in pair) for pair in PROJECT["tool"]["uv"]["conflicts"]}
    clashing = {frozenset(pair) for pair in combinations(EXTRAS, 2) if len(runtimes(*pair)) > 1}
    assert clashing == declared
