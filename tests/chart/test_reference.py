"""templates/reference.yaml."""

from .rendering import Renderer


def test_it_is_a_deployment_behind_a_headless_service(render: Renderer) -> None:
    rendered = render("services-only")
    found = rendered.workload("reference")
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 2)
    service = rendered.one("Service", "reference")["spec"]
    assert service["clusterIP"] == "None"
    assert service["ports"] == [
        {"name": "grpc", "port": 50051, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "grpc"}
    ]
    assert service["selector"].items() <= found["spec"]["template"]["metadata"]["labels"].items()


def test_a_slice_of_a_gpu_is_a_resource_like_another(render: Renderer) -> None:
    rendered = render("mig")
    limits = rendered.container("reference")["resources"]["limits"]
    assert limits == {"memory": "2Gi", "nvidia.com/mig-3g.40gb": "1"}
    requests = rendered.container("reference")["resources"]["requests"]
    assert requests == {"cpu": "250m", "memory": "1Gi", "nvidia.com/mig-3g.40gb": "1"}
    assert rendered.pod("reference")["runtimeClassName"] == "nvidia"
    assert rendered.config()["reference"]["device"] == "cuda:0"


def test_it_may_read_the_model_that_was_trained_here(render: Renderer) -> None:
    mounts = render("existing-claims").container("reference")["volumeMounts"]
    assert {"name": "runs", "mountPath": "/var/lib/pilothouse/runs", "readOnly": True} in mounts


def test_it_keeps_nothing(render: Renderer) -> None:
    volumes = render().pod("reference")["volumes"]
    assert {volume["name"] for volume in volumes} == {"config", "tmp"}


def test_switched_off_it_is_not_there(render: Renderer) -> None:
    assert "reference" not in render("one-service").names("Deployment")
