"""What serves after a restart."""

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reward.conftest import Both
from tests.reward.test_reward_models import PROMPTS, RESPONSES, on, version
from tests.reward.test_staging import flipped_byte, gone

from pilothouse.errors import (
    CorruptDataError,
    PreconditionError,
)
from pilothouse.reward.models_folder import SERVING

Serving = Callable[..., AbstractAsyncContextManager[Both]]


async def test_a_promotion_that_cannot_be_written_down_does_not_happen(
    models_folder: Path, both: Serving
) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")
    (models_folder / f".{SERVING}.partial").mkdir()
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        with pytest.raises(PreconditionError, match="let the service write"):
            await service.models.promote(b, expected_serving_version=a)
        assert (await service.score.model()).reward_version == a
        (models_folder / f".{SERVING}.partial").rmdir()
        await service.models.promote(b, expected_serving_version=a)


async def test_what_was_promoted_serves_after_a_restart(models_folder: Path, both: Serving) -> None:
    a = version(models_folder, "a")
    async with both(**on(models_folder)) as service:
        staged = await service.models.stage("b", "c", combination="mean_minus_std", std_factor=0.5)
        await service.models.promote(staged.reward_version, expected_serving_version=a)
        before = await service.score.score(PROMPTS, RESPONSES)
    async with both(**on(models_folder)) as service:
        loaded = await service.models.models()
        after = await service.score.score(PROMPTS, RESPONSES)
    assert loaded.serving == staged
    assert loaded.previous is None
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.disagreement, before.disagreement)


async def test_a_rollback_to_the_configured_model_survives_a_restart(
    models_folder: Path, both: Serving
) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        await service.models.promote(b, expected_serving_version=a)
        await service.models.rollback()
    async with both(**on(models_folder)) as service:
        assert (await service.score.model()).reward_version == a


@pytest.mark.parametrize("damage", [flipped_byte, gone, "replaced"])
async def test_a_promoted_model_that_has_changed_is_not_served(
    damage: Any, models_folder: Path, both: Serving
) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        await service.models.promote(b, expected_serving_version=a)
    if damage == "replaced":
        shutil.rmtree(models_folder / "b")
        shutil.copytree(models_folder / "c", models_folder / "b")
    else:
        damage(models_folder / "b")
    with pytest.raises(CorruptDataError, match=f"remove .*{SERVING} to serve the configured scorer"):
        async with both(**on(models_folder)):
            pass
    (models_folder / SERVING).unlink()
    async with both(**on(models_folder)) as service:
        assert (await service.score.model()).reward_version == a
