"""Fixtures of the chart's tests."""

import pytest

from .rendering import Renderer, Require, program


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Renderer:
    """Renders the chart: ``render("loop", {"trainer": {"replicas": 1}}, version="1.20.2")``."""
    return Renderer(program("helm", require), tmp_path_factory.mktemp("helm"))
