"""The small models, and ragged sequences for them."""

from collections.abc import Callable

import numpy as np
import pytest
from transformers import PreTrainedModel

from pilothouse.models.tiny import ARCHITECTURES, small_model
from pilothouse.tensors import Tokens


@pytest.fixture(params=list(ARCHITECTURES))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """A fresh small model of every architecture."""
    return small_model(request.param, seed=3)


@pytest.fixture
def sequences() -> list[Tokens]:
    """Ragged, with neighbours of equal length, one single token, and some longer than Gemma's window."""
    return draw([9, 17, 17, 1, 40, 2])


def draw(lengths: list[int], seed: int = 0) -> list[Tokens]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 500, length, dtype=np.int32) for length in lengths]


@pytest.fixture(name="draw")
def _draw() -> Callable[..., list[Tokens]]:
    """``draw(lengths, seed)``: random sequences."""
    return draw
