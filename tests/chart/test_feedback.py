"""templates/feedback.yaml."""

import pytest

from .rendering import FULL_NAME, RefusedError, Renderer


def test_sqlite_has_one_process_at_most_and_is_migrated_before_each_start(render: Renderer) -> None:
    rendered = render()
    found = rendered.workload("feedback")
    assert (found["kind"], found["spec"]["replicas"]) == ("StatefulSet", 1)
    (migrate,) = rendered.pod("feedback")["initContainers"]
    assert migrate["command"] == ["python", "-m", "pilothouse.feedback.migrate"]
    assert rendered.config()["feedback"]["database"] == "sqlite:////var/lib/pilothouse/feedback/feedback.db"
    for container in (migrate, rendered.container("feedback")):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["feedback"] == "/var/lib/pilothouse/feedback"


@pytest.mark.parametrize(
    "more", [{"replicas": 2}, {"autoscaling": {"enabled": True}}, {"keda": {"enabled": True}}]
)
def test_more_processes_of_sqlite_are_refused(render: Renderer, more: dict[str, object]) -> None:
    with pytest.raises(RefusedError, match=r"SQLite has one process; set feedback.replicas=1"):
        render({"feedback": more})


def test_postgresql_is_shared_and_its_password_stands_in_no_file_of_ours(render: Renderer) -> None:
    rendered = render("postgresql")
    found = rendered.workload("feedback")
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 3)
    reference = {"secretKeyRef": {"name": "feedback-database", "key": "url"}}
    expected = {"name": "PILOTHOUSE_FEEDBACK__DATABASE", "valueFrom": reference}
    assert expected in rendered.container("feedback")["env"]
    assert "database" not in rendered.config()["feedback"]
    assert "initContainers" not in rendered.pod("feedback")
    assert "feedback" not in rendered.names("PersistentVolumeClaim")


def test_postgresql_needs_its_secret(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"feedback.postgresql.existingSecret is empty: name a Secret"):
        render({"feedback": {"postgresql": {"enabled": True}}})


def test_the_page_has_a_service_with_an_address_of_its_own(render: Renderer) -> None:
    page = render().one("Service", "page")["spec"]
    assert "clusterIP" not in page
    assert [(port["port"], port["targetPort"]) for port in page["ports"]] == [(8000, "page")]
    grpc = render().one("Service", "feedback")["spec"]
    assert [port["name"] for port in grpc["ports"]] == ["grpc", "page"]


def test_the_page_knows_its_address_where_tls_ends_before_it(render: Renderer) -> None:
    page = {"host": "0.0.0.0", "port": 8000, "address": "http://localhost:8000", "allow_insecure": True}
    assert render().config()["feedback"]["page"] == page  # where a forwarded port begins
    for values in ("ingress", "gateway"):
        page = render(values).config()["feedback"]["page"]
        assert page["address"] == "https://rank.example.org"
        assert "allow_insecure" not in page
    page = render("ingress-plain").config()["feedback"]["page"]
    assert (page["address"], page["allow_insecure"]) == ("http://rank.internal", True)


def test_a_database_in_the_configuration_file_is_refused(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"config.feedback.database is the chart's"):
        render({"config": {"feedback": {"database": "sqlite:///runs/feedback.db"}}})


def test_a_volume_that_is_there_is_used(render: Renderer) -> None:
    volumes = {volume["name"]: volume for volume in render("existing-claims").pod("feedback")["volumes"]}
    assert volumes["feedback"]["persistentVolumeClaim"] == {"claimName": "feedback"}
    volumes = {volume["name"]: volume for volume in render().pod("feedback")["volumes"]}
    assert volumes["feedback"]["persistentVolumeClaim"] == {"claimName": f"{FULL_NAME}-feedback"}
    volumes = {volume["name"]: volume for volume in render("no-volumes").pod("feedback")["volumes"]}
    assert "emptyDir" in volumes["feedback"]
