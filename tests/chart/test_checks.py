"""templates/checks.yaml: what each of them refuses stands with the template that it protects."""

import re
from typing import Any

import pytest

from .rendering import RefusedError, Renderer


def test_all_problems_are_told_at_once(render: Renderer) -> None:
    values = {
        "reward": {"enabled": False},
        "feedback": {"replicas": 2},
        "ingress": {"enabled": True},
        "policy": {"terminationGracePeriodSeconds": 1},
    }
    with pytest.raises(RefusedError) as refused:
        render(values)
    problems = [line for line in str(refused.value).splitlines() if line.startswith("- ")]
    assert len(problems) == 4


def test_two_servers_of_a_pod_cannot_have_one_port(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"two servers of policy have one port"):
        render({"config": {"policy": {"server": {"port": 50052}}}})


def test_a_pod_needs_fixed_ports(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"port grpc of reference is 0: a pod needs a fixed one"):
        render({"config": {"reference": {"server": {"port": 0}}}})


@pytest.mark.parametrize("scaler", ["autoscaling", "keda"])
def test_a_range_of_replicas_has_its_ends_in_order(render: Renderer, scaler: str) -> None:
    wrong = {"enabled": True, "minReplicas": 5}
    with pytest.raises(RefusedError, match=rf"policy.{scaler}.minReplicas is 5 and maxReplicas 4"):
        render({"policy": {scaler: wrong}})


def test_fetching_needs_an_image(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"models.fetch.image is empty"):
        render({"models": {"fetch": {"enabled": True}}})


def test_names_that_no_service_can_have_are_refused(render: Renderer) -> None:
    def refused(name: str) -> Any:
        told = rf"would be called {re.escape(name)}-\.\.\.: names of Services begin with a letter and have"
        return pytest.raises(RefusedError, match=told)

    with refused("7days-pilothouse"):
        render(release="7days")
    with refused("my.rel-pilothouse"):
        render(release="my.rel")
    with refused("run-My_App"):
        render({"nameOverride": "My_App"})
    assert render({"fullnameOverride": "mine"}, release="my.rel").objects
    with pytest.raises(RefusedError, match="fullnameOverride"):
        render({"fullnameOverride": "Big"})


def test_it_renders_nothing(render: Renderer) -> None:
    assert all(found is not None for found in render().objects)
