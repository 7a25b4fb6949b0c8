"""templates/horizontalpodautoscalers.yaml."""

import pytest

from .rendering import FULL_NAME, RefusedError, Renderer


@pytest.mark.parametrize(
    ("version", "expected"), [("1.20.2", "v2beta2"), ("1.22.9", "v2beta2"), ("1.23.0", "v2")]
)
def test_the_version_is_one_that_the_cluster_has(render: Renderer, version: str, expected: str) -> None:
    found = render("autoscaling-cpu", version=version).one("HorizontalPodAutoscaler", "policy")
    assert found["apiVersion"] == f"autoscaling/{expected}"


def test_cpu_is_a_share_of_what_is_requested(render: Renderer) -> None:
    spec = render("autoscaling-cpu").one("HorizontalPodAutoscaler", "policy")["spec"]
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{FULL_NAME}-policy"}
    assert spec["scaleTargetRef"] == target
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 8)
    (metric,) = spec["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}


def test_the_queue_is_the_components_own(render: Renderer) -> None:
    rendered = render("autoscaling-queue")
    (metric,) = rendered.one("HorizontalPodAutoscaler", "policy")["spec"]["metrics"]
    assert metric["pods"]["metric"] == {"name": "pilothouse_policy_waiting"}
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "8"}
    cpu, rows = rendered.one("HorizontalPodAutoscaler", "reward")["spec"]["metrics"]
    assert cpu["type"] == "Resource"
    assert rows["pods"]["metric"] == {"name": "reward_rows_waiting"}
    assert rows["pods"]["target"]["averageValue"] == "500m"


def test_behaviour_is_passed_on(render: Renderer) -> None:
    spec = render("autoscaling-cpu").one("HorizontalPodAutoscaler", "reference")["spec"]
    assert spec["behavior"] == {"scaleDown": {"stabilizationWindowSeconds": 600}}


def test_what_cannot_work_is_refused(render: Renderer) -> None:
    nothing = {"enabled": True, "cpuUtilization": 0}
    with pytest.raises(RefusedError, match=r"policy.autoscaling has nothing to go by"):
        render({"policy": {"autoscaling": nothing}})
    both = {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "serverAddress": "http://p"}}
    with pytest.raises(RefusedError, match=r"policy.autoscaling and policy.keda are both enabled"):
        render({"policy": both})
    unasked = {"autoscaling": {"enabled": True}}
    with pytest.raises(RefusedError, match=r"is a share of policy.resources.requests.cpu, which is not set"):
        render({"policy": unasked, "defaults": {"resources": {"requests": {"cpu": None}}}})


def test_there_is_none_unasked(render: Renderer) -> None:
    assert not render().all("HorizontalPodAutoscaler")


def test_every_queue_is_a_series_that_the_component_has() -> None:
    """Named as in docs/operating.md, which a test of its own holds to the truth."""
    import yaml

    from .rendering import CHART, ROOT

    source = (CHART / "templates/_components.tpl").read_text()
    table = yaml.safe_load(source.split('define "pilothouse.table" -}}')[1].split("{{- end -}}")[0])
    operating = (ROOT / "docs/operating.md").read_text()
    queues = {name: entry["queue"] for name, entry in table.items() if entry["queue"]}
    assert set(queues) == {"policy", "reward", "reference", "feedback"}
    for queue in queues.values():
        words = queue.removeprefix("pilothouse_")
        assert f"`{words}`" in operating or f"`…_{words.rsplit('_', 1)[1]}`" in operating, queue
