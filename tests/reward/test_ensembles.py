"""How the scores of several models become one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.reward.conftest import Both

from pilothouse.config import parse
from pilothouse.errors import ConfigError, NonFiniteScoreError
from pilothouse.models.reward_files import read_manifest
from pilothouse.reward.backends.combine import Combination
from pilothouse.reward.config import CombinationName, RewardConfig

Serving = Callable[..., AbstractAsyncContextManager[Both]]
PROMPTS = ["The film was", "A", ""]
RESPONSES = [" great.", " boring movie.", "so good"]


def expected(combine: str, factor: float, members: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[K, B] to [B], in plain words."""
    mean = members.sum(axis=0) / len(members)
    std = np.sqrt(((members - mean) ** 2).sum(axis=0) / len(members))
    lowest = np.sort(members, axis=0)[0]
    found: dict[str, npt.NDArray[np.float64]] = {
        "mean": mean,
        "min": lowest,
        "mean_minus_std": mean - factor * std,
    }
    return found[combine]


@pytest.mark.parametrize("combine", ["mean", "min", "mean_minus_std"])
@given(
    members=arrays(np.float32, (4, 5), elements=st.floats(-1e4, 1e4, width=32)),
    factor=st.floats(0, 10),
)
def test_a_combination_is_what_numpy_says(
    combine: CombinationName, members: npt.NDArray[np.float32], factor: float
) -> None:
    combination = Combination(combine, factor)
    wide = members.astype(np.float64)
    np.testing.assert_allclose(
        combination.score(list(members), [1.0] * 4), expected(combine, factor, wide), rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(
        combination.disagreement(list(members)), wide.std(axis=0), rtol=1e-5, atol=1e-3
    )


def test_a_weighted_sum_has_no_disagreement() -> None:
    values = [np.array([1.0, 2.0], np.float32), np.array([3.0, 5.0], np.float32)]
    assert Combination().score(values, [0.5, -2.0]).tolist() == [-5.5, -9.0]
    assert Combination().disagreement(values).tolist() == []


def test_a_combination_that_overflows_is_an_error_and_never_a_number() -> None:
    values = [np.array([0.0, 3e38], np.float32), np.array([0.0, -3e38], np.float32)]
    with pytest.raises(NonFiniteScoreError, match="mean_minus_std of row 1 overflows"):
        Combination("mean_minus_std", 2.0).score(values, [1.0, 1.0])


@pytest.mark.parametrize("combine", ["mean", "min", "mean_minus_std"])
async def test_a_configured_ensemble_reports_members_and_disagreement(
    combine: str, models_folder: Path, both: Serving
) -> None:
    parts = [
        {"name": name, "backend": "onnx" if name == "o" else "torch", "model": str(models_folder / name)}
        for name in "abo"
    ]
    settings = {"backend": "composite", "parts": parts, "combine": combine, "std_factor": 0.5}
    async with both(**settings, models_folder=str(models_folder)) as service:
        scores = await service.score.score(PROMPTS, RESPONSES)
    members = np.stack([part.values for part in scores.components]).astype(np.float64)
    assert [part.name for part in scores.components] == ["a", "b", "o"]
    np.testing.assert_allclose(scores.values, expected(combine, 0.5, members), rtol=1e-5)
    np.testing.assert_allclose(scores.disagreement, members.std(axis=0), rtol=1e-5)
    assert scores.disagreement.min() > 0


async def test_a_single_model_has_no_disagreement(models_folder: Path, both: Serving) -> None:
    settings = {"model": str(models_folder / "a"), "models_folder": str(models_folder)}
    async with both(backend="torch", **settings) as service:
        assert len((await service.score.score(PROMPTS, RESPONSES)).disagreement) == 0


async def test_a_staged_ensemble_has_the_version_of_the_configured_one(
    models_folder: Path, both: Serving
) -> None:
    parts = [{"name": name, "backend": "torch", "model": str(models_folder / name)} for name in "ab"]
    configured = {"backend": "composite", "parts": parts, "combine": "mean_minus_std", "std_factor": 0.5}
    async with both(**configured, models_folder=str(models_folder)) as service:
        versions = {(await service.score.model()).reward_version}
        for factor in (0.5, 0.6):
            staged = await service.models.stage("a", "b", combination="mean_minus_std", std_factor=factor)
            versions.add(staged.reward_version)
            await service.models.drop()
        for order, combination in (("ab", "min"), ("ab", "mean"), ("ac", "mean")):
            staged = await service.models.stage(*order, combination=combination)  # type: ignore[arg-type]
            versions.add(staged.reward_version)
            assert staged.backend == "composite"
            await service.models.drop()
    assert len(versions) == 5  # the first two are one
    assert all(version.startswith("ensemble:") for version in versions)


async def test_the_mean_of_one_folder_is_that_model(models_folder: Path, both: Serving) -> None:
    async with both(models_folder=str(models_folder)) as service:
        staged = await service.models.stage("a", combination="min")
    assert staged.reward_version == read_manifest(models_folder / "a").version
    assert (staged.backend, staged.combination) == ("torch", None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "mean"}, "two parts or more"),
        ({"backend": "composite", "combine": "min", "parts": [{"name": "a"}]}, "two parts or more"),
        (
            {"backend": "composite", "combine": "mean", "parts": [{"name": "a"}, {"name": "b", "weight": 2}]},
            "parts have no weight",
        ),
        ({"std_factor": -1}, "std_factor"),
        ({"std_factor": float("inf")}, "std_factor"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(RewardConfig, settings, section="reward")
