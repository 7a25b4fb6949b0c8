"""templates/migration.yaml."""

import pytest

from .rendering import Renderer, component_of


def test_sqlite_needs_none(render: Renderer) -> None:
    assert not [found for found in render().objects if component_of(found) == "migration"]


def test_it_runs_before_anything_changes_and_leaves_nothing(render: Renderer) -> None:
    job = render("postgresql").one("Job", "migration")
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
        "before-hook-creation",
        "hook-succeeded",
    }
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_it_needs_nothing_of_the_release_but_the_secret(render: Renderer) -> None:
    pod = render("postgresql").one("Job", "migration")["spec"]["template"]["spec"]
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}]
    assert pod["serviceAccountName"] == "default"
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "pilothouse.feedback.migrate"]
    assert "args" not in container
    (url,) = [entry for entry in container["env"] if entry["name"] == "PILOTHOUSE_FEEDBACK__DATABASE"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "feedback-database", "key": "url"}


@pytest.mark.parametrize("postgresql", [True, False])
def test_what_the_user_adds_to_feedback_is_there_too(render: Renderer, postgresql: bool) -> None:
    """The database's authority, for example."""
    added = {
        "extraEnv": [{"name": "PGSSLROOTCERT", "value": "/ca/ca.crt"}],
        "extraEnvFrom": [{"configMapRef": {"name": "database"}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "database-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    }
    rendered = render(*["postgresql"] * postgresql, {"feedback": added})
    if postgresql:
        pod = rendered.one("Job", "migration")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
    else:
        pod = rendered.pod("feedback")
        (container,) = pod["initContainers"]
    assert added["extraEnv"][0] in container["env"]
    assert container["envFrom"] == added["extraEnvFrom"]
    assert added["extraVolumeMounts"][0] in container["volumeMounts"]
    assert added["extraVolumes"][0] in pod["volumes"]


def test_its_network_policy_is_there_before_it(render: Renderer) -> None:
    rendered = render("postgresql")
    policy, job = rendered.one("NetworkPolicy", "migration"), rendered.one("Job", "migration")
    weight = "helm.sh/hook-weight"
    assert int(policy["metadata"]["annotations"][weight]) < int(job["metadata"]["annotations"][weight])
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ports = [port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]]
    assert ports == [5432, 53, 53]
    assert not render("postgresql", "no-network-policies").all("NetworkPolicy")
