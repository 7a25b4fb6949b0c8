"""Matrices in panels: the same products, and rows stored and read wherever they begin."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.models.panels import PANEL, PanelLinear
from pilothouse.models.weights import Linear


def linear(outputs: int, inputs: int, *, bias: bool = False) -> Linear:
    random = torch.Generator().manual_seed(outputs * 1000 + inputs)
    weight = torch.randn(outputs, inputs, generator=random)
    return Linear(weight, torch.randn(outputs, generator=random) if bias else None)


@pytest.mark.parametrize("outputs", [1, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL, 200])
@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_over_panels_equals_the_plain_product(outputs: int, rows: int, bias: bool) -> None:
    plain = linear(outputs, 31, bias=bias)
    inputs = torch.randn(rows, 31)
    product = PanelLinear.of(plain)(inputs)
    assert product.shape == (rows, outputs)
    torch.testing.assert_close(product, plain(inputs))


@given(outputs=st.integers(1, 3 * PANEL + 5), first=st.integers(0, 200), count=st.integers(0, 200))
def test_rows_come_back_as_they_were_stored(outputs: int, first: int, count: int) -> None:
    first = min(first, outputs)
    count = min(count, outputs - first)
    plain = linear(outputs, 5)
    panels = PanelLinear.of(linear(outputs, 5))
    fresh = torch.full((count, 5), 7.0)
    panels.store(fresh, first)
    plain.weight[first : first + count] = fresh
    assert torch.equal(panels.rows(0, outputs), plain.weight)
    assert torch.equal(panels.rows(first, count), fresh)


@given(outputs=st.integers(1, 3 * PANEL + 5), first=st.integers(0, 9), count=st.integers(0, 9))
def test_inputs_are_stored_as_rows_of_the_transpose(outputs: int, first: int, count: int) -> None:
    count = min(count, 9 - first)
    plain = linear(outputs, 9)
    panels = PanelLinear.of(plain)
    fresh = torch.full((count, outputs), -3.0)
    panels.store_inputs(fresh, first)
    plain.weight[:, first : first + count] = fresh.t()
    assert torch.equal(panels.rows(0, outputs), plain.weight)
