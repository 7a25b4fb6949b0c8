"""templates/scaledobjects.yaml."""

import pytest

from .rendering import FULL_NAME, NAMESPACE, RefusedError, Renderer


def test_it_scales_by_the_queue_of_all_pods(render: Renderer) -> None:
    spec = render("keda").one("ScaledObject", "policy")["spec"]
    assert spec["scaleTargetRef"]["name"] == f"{FULL_NAME}-policy"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 16)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus.monitoring:9090",
        "query": f'sum(pilothouse_policy_waiting{{namespace="{NAMESPACE}",pod=~"{FULL_NAME}-policy-.*"}})',
        "threshold": "16",
    }


def test_the_query_may_be_ones_own(render: Renderer) -> None:
    (trigger,) = render("keda").one("ScaledObject", "reward")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == "sum(pilothouse_reward_waiting_rows)"
    assert trigger["metadata"]["threshold"] == "512.5"


def test_it_needs_the_address_of_prometheus(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"policy.keda.serverAddress is empty"):
        render({"policy": {"keda": {"enabled": True}}})


def test_there_is_none_unasked(render: Renderer) -> None:
    assert not render().all("ScaledObject")
