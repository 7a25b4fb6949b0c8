"""templates/tests/serving.yaml: what `helm test` runs."""

import ast

from .rendering import CHART, FULL_NAME, NAMESPACE, Renderer


def test_it_calls_every_service_that_is_there(render: Renderer) -> None:
    host = f"{FULL_NAME}-policy.{NAMESPACE}.svc"
    services = render().one("Pod", "test")["spec"]["containers"][0]["args"][1:]
    assert services[0] == f"policy=dns:///{host}:50051={host}:8080"
    assert [service.split("=")[0] for service in services] == ["policy", "reward", "reference", "feedback"]
    (only,) = render("one-service").one("Pod", "test")["spec"]["containers"][0]["args"][1:]
    assert only.startswith("policy=")


def test_it_runs_the_program_in_files(render: Renderer) -> None:
    program = render().one("Pod", "test")["spec"]["containers"][0]["args"][0]
    assert program.rstrip() == (CHART / "files/check.py").read_text().rstrip()
    ast.parse(program)


def test_it_has_a_clients_certificate(render: Renderer) -> None:
    (config, _) = render().one("Pod", "test")["spec"]["volumes"]
    (secret,) = [source["secret"] for source in config["projected"]["sources"] if "secret" in source]
    assert secret["name"] == f"{FULL_NAME}-client-tls"


def test_it_leaves_nothing_when_it_succeeds(render: Renderer) -> None:
    annotations = render().one("Pod", "test")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "test"
    assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
        "before-hook-creation",
        "hook-succeeded",
    }
