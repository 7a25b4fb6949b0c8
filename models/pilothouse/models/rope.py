"""Rotary position embeddings (Su et al. 2021, arXiv 2104.09864): frequencies, tables and their use."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pilothouse.errors import UnsupportedArchitectureError


def inverse_frequencies(parameters: Mapping[str, Any], head_dim: int) -> tuple[float, ...]:
    """Returns the D/2 angular frequencies in radians per position.

    Args:
        parameters: ``rope_parameters`` of a transformers config: rope_theta, rope_type and its own.
        head_dim: D.

    Raises:
        UnsupportedArchitectureError: Another type than default, linear and llama3, or a partial rotation.
    """
    kind = parameters.get("rope_type", "default")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedArchitectureError("rope with partial_rotary_factor below 1 is not supported")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    frequencies = 1.0 / (parameters["rope_theta"] ** exponents)
    if kind == "linear":
        frequencies = frequencies / parameters["factor"]
    elif kind == "llama3":
        frequencies = _llama3(frequencies, parameters)
    elif kind != "default":
        raise UnsupportedArchitectureError(
            f"rope type '{kind}' is not supported; there are: default, linear, llama3"
        )
    return tuple(frequencies.tolist())


def _llama3(frequencies: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Stretches the long wavelengths and interpolates towards the short ones, as Llama 3.1 was trained."""
    factor, context = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    wavelengths = 2 * math.pi / frequencies
    smooth = ((context / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    stretched: Tensor = (1 - smooth) * frequencies / factor + smooth * frequencies
    return stretched


@lru_cache(maxsize=16)
def tables(
    frequencies: tuple[float, ...], max_positions: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns (cosines, sines) of every position, [max_positions, 1, D] each.

    The first half of the sines is negated, so that ``rotate`` needs no negation of its own. The halves of a
    row are equal but for that: twice the memory, 1 KiB a position of 128 dims in float32, for fewer small
    operations in a decode step.
    A table, and not the functions at the positions of a step: vectorised cosines differ in the last bit with
    an element's place in its array, so that a row would depend on its neighbours.
    """
    with torch.inference_mode(False):  # else tables made while generating could not be used in training
        inverse = torch.tensor(frequencies, dtype=torch.float32)
        angles = torch.arange(max_positions, dtype=torch.float32)[:, None] * inverse
        cosines, sines = angles.cos(), angles.sin()
        both = torch.cat([cosines, cosines], 1), torch.cat([-sines, sines], 1)
        return both[0].to(device, dtype).unsqueeze(1), both[1].to(device, dtype).unsqueeze(1)


def angles_at(
    frequencies: tuple[float, ...], max_positions: int, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns (cosines, sines) for ``rotate`` at int64 positions [T], as [T, 1, D] each."""
    cosines, sines = tables(frequencies, max_positions, positions.device, dtype)
    return cosines[positions], sines[positions]


def rotate(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Returns [T, H, D] states turned by the angles of their positions, as made by ``angles_at``."""
    return torch.addcmul(states * cosines, states.roll(states.shape[-1] // 2, -1), sines)
