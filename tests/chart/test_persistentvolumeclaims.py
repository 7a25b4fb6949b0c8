"""templates/persistentvolumeclaims.yaml."""

from .rendering import Renderer


def test_claims_outlive_the_release(render: Renderer) -> None:
    for values in ("default", "loop", "models-volume"):
        for claim in render(values).all("PersistentVolumeClaim"):
            assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_there_is_a_claim_for_what_is_mounted_and_no_other(render: Renderer) -> None:
    expected = {
        "default": {"runs", "feedback"},
        "loop": {"runs", "feedback", "reward-models"},
        "postgresql": {"runs"},
        "models-volume": {"runs", "feedback", "models"},
        "services-only": set(),
        "existing-claims": set(),
        "no-volumes": set(),
        "supervised": {"runs"},
    }
    for values, names in expected.items():
        rendered = render(values)
        assert rendered.names("PersistentVolumeClaim") == names, values
        mounted = {
            volume["persistentVolumeClaim"]["claimName"]
            for _, pod in rendered.pods()
            for volume in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in volume
        }
        claims = {claim["metadata"]["name"] for claim in rendered.all("PersistentVolumeClaim")}
        assert claims <= mounted, values


def test_volumes_made_by_hand_can_be_told(render: Renderer) -> None:
    claim = render("volumes-by-hand").one("PersistentVolumeClaim", "runs")
    assert claim["spec"]["storageClassName"] == ""
    assert claim["spec"]["selector"] == {"matchLabels": {"volume": "runs"}}
    assert claim["metadata"]["annotations"]["backup"] == "yes"
    assert "storageClassName" not in render().one("PersistentVolumeClaim", "runs")["spec"]
    spec = render("models-volume").one("PersistentVolumeClaim", "models")["spec"]
    assert (spec["storageClassName"], spec["accessModes"]) == ("nfs", ["ReadWriteMany"])
    assert spec["resources"] == {"requests": {"storage": "200Gi"}}
