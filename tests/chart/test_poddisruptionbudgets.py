"""templates/poddisruptionbudgets.yaml."""

import pytest

from .rendering import RefusedError, Renderer


def test_one_pod_of_a_service_may_go_at_a_time(render: Renderer) -> None:
    rendered = render()
    assert rendered.names("PodDisruptionBudget") == {"policy", "reward", "reference", "feedback"}
    for found in rendered.all("PodDisruptionBudget"):
        assert found["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(("version", "expected"), [("1.20.2", "v1beta1"), ("1.21.0", "v1"), ("1.37.0", "v1")])
def test_the_version_is_one_that_the_cluster_has(render: Renderer, version: str, expected: str) -> None:
    found = render(version=version).all("PodDisruptionBudget")
    assert {one["apiVersion"] for one in found} == {f"policy/{expected}"}


def test_it_selects_the_pods_of_its_component(render: Renderer) -> None:
    rendered = render()
    for component in ("policy", "reward", "reference", "feedback"):
        selector = rendered.one("PodDisruptionBudget", component)["spec"]["selector"]["matchLabels"]
        labels = rendered.workload(component)["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == component


def test_other_budgets(render: Renderer) -> None:
    rendered = render("scheduling")
    assert rendered.one("PodDisruptionBudget", "reward")["spec"]["maxUnavailable"] == "50%"
    assert rendered.one("PodDisruptionBudget", "reference")["spec"]["minAvailable"] == 2
    assert "maxUnavailable" not in rendered.one("PodDisruptionBudget", "reference")["spec"]
    assert rendered.one("PodDisruptionBudget", "trainer")["spec"]["minAvailable"] == 1
    assert "feedback" not in rendered.names("PodDisruptionBudget")


def test_a_job_takes_only_a_number_that_must_stay(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"trainer.pdb: Kubernetes takes minAvailable only"):
        render({"trainer": {"pdb": {"enabled": True}}})
