"""templates/policy.yaml."""

import pytest

from .rendering import FULL_NAME, NAMESPACE, RefusedError, Renderer


def test_it_is_a_deployment_that_adds_a_pod_before_it_takes_one_away(render: Renderer) -> None:
    found = render().workload("policy")
    assert found["kind"] == "Deployment"
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_it_serves_the_configuration_file_with_every_port_named(render: Renderer) -> None:
    container = render().container("policy")
    assert container["command"] == [
        "python",
        "-m",
        "pilothouse.policy",
        "--config",
        "/etc/pilothouse/pilothouse.toml",
    ]
    ports = {port["name"]: (port["containerPort"], port["protocol"]) for port in container["ports"]}
    assert ports == {"grpc": (50051, "TCP"), "weights": (50052, "TCP"), "http": (8080, "TCP")}


def test_callers_find_ready_pods_and_the_trainer_finds_all(render: Renderer) -> None:
    calls, weights = render().one("Service", "policy")["spec"], render().one("Service", "weights")["spec"]
    assert calls["clusterIP"] == weights["clusterIP"] == "None"
    assert calls["selector"] == weights["selector"]
    assert "publishNotReadyAddresses" not in calls
    assert weights["publishNotReadyAddresses"] is True
    assert [port["port"] for port in calls["ports"]] == [50051]
    assert [port["port"] for port in weights["ports"]] == [50052]


def test_a_pod_that_lacks_weights_asks_its_peers(render: Renderer) -> None:
    peers = render().config()["policy"]["catch_up"]["peers"]
    assert peers == [f"dns:///{FULL_NAME}-weights.{NAMESPACE}.svc:50052"]


def test_it_may_read_the_newest_checkpoint_where_no_peer_is(render: Renderer) -> None:
    assert "run" not in render().config()["policy"]["catch_up"]
    assert render("existing-claims").config()["policy"]["catch_up"]["run"] == "runs/ppo"
    named = {"config": {"ppo": {"run": {"name": "second", "folder": "runs/team"}}}}
    rendered = render("existing-claims", named)
    assert rendered.config()["policy"]["catch_up"]["run"] == "runs/team/second"
    mounts = rendered.container("policy")["volumeMounts"]
    assert {"name": "runs", "mountPath": "/var/lib/pilothouse/runs", "readOnly": True} in mounts


def test_probes_ask_the_plain_port_for_the_real_state(render: Renderer) -> None:
    container = render().container("policy")
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert all(container[f"{kind}Probe"]["httpGet"]["port"] == "http" for kind in paths)
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 600 + 300  # loading, and catching up


@pytest.mark.parametrize(("wait", "tries"), [(0, 300), (1.5, 301), (3600, 2100)])
def test_a_pod_that_waits_for_weights_is_given_the_time_for_it(
    render: Renderer, wait: float, tries: int
) -> None:
    rendered = render({"config": {"policy": {"catch_up": {"wait_seconds": wait}}}})
    assert rendered.container("policy")["startupProbe"]["failureThreshold"] == tries
    assert rendered.workload("policy")["spec"]["progressDeadlineSeconds"] >= 2 * tries + 60
    assert rendered.container("reward")["startupProbe"]["failureThreshold"] == 300


@pytest.mark.parametrize("longest", [30, 300, 1800.5])
def test_a_pod_ends_later_than_its_longest_generation(render: Renderer, longest: float) -> None:
    values = {"config": {"policy": {"server": {"max_deadline_seconds": longest}}}}
    rendered = render(values)
    drain = rendered.config()["policy"]["server"]["drain_seconds"]
    stop = int(rendered.container("policy")["lifecycle"]["preStop"]["exec"]["command"][1])
    assert longest < drain
    assert stop + drain < rendered.pod("policy")["terminationGracePeriodSeconds"]


def test_seconds_that_would_cut_a_generation_off_are_refused(render: Renderer) -> None:
    with pytest.raises(
        RefusedError, match=r"drain_seconds is 30: it must be above max_deadline_seconds = 600"
    ):
        render({"config": {"policy": {"server": {"drain_seconds": 30}}}})
    with pytest.raises(
        RefusedError, match=r"policy.terminationGracePeriodSeconds is 60: it must be above .* = 615"
    ):
        render({"policy": {"terminationGracePeriodSeconds": 60}})


def test_its_number_is_left_to_who_scales_it(render: Renderer) -> None:
    assert render({"policy": {"replicas": 3}}).workload("policy")["spec"]["replicas"] == 3
    for scaled in ("autoscaling-cpu", "keda"):
        assert "replicas" not in render(scaled).workload("policy")["spec"]


def test_with_a_gpu_it_asks_for_one_and_uses_it(render: Renderer) -> None:
    rendered = render("one-gpu")
    container = rendered.container("policy")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["image"] == "pilothouse/policy:0.1.0-gpu"
    assert rendered.config()["policy"]["device"] == "cuda:0"
    assert rendered.pod("policy")["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert rendered.container("reward")["image"] == "pilothouse/reward:0.1.0"


def test_gpus_of_the_defaults_are_everybodys(render: Renderer) -> None:
    config = render({"defaults": {"gpu": {"count": 1}}, "reference": {"gpu": {"count": 0}}}).config()
    assert config["policy"]["device"] == "cuda:0"
    assert config["ppo"]["device"] == "cuda"
    assert "device" not in config["reference"]


def test_pods_are_spread_over_nodes_and_zones(render: Renderer) -> None:
    spread = render("ranks-gpus").pod("policy")["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"DoNotSchedule"}
    assert "topologySpreadConstraints" not in render("scheduling").pod("policy")


def test_pods_roll_when_their_own_configuration_changes_and_at_no_other_time(render: Renderer) -> None:
    def digest(values: dict[str, object]) -> str:
        metadata = render({"config": values}).workload("policy")["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/config"])

    assert digest({"policy": {"max_running": 8}}) != digest({})
    assert digest({"ppo": {"total_steps": 7}, "reward": {"max_batch_rows": 64}}) == digest({})


def test_models_are_fetched_before_it_starts(render: Renderer) -> None:
    pod = render("fetched-models").pod("policy")
    (fetch,) = pod["initContainers"]
    assert fetch["command"] == ["fetch", "s3://models/smollm2", "models/smollm2"]
    assert fetch["workingDir"] == "/var/lib/pilothouse"
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["models"]["mountPath"] == "/var/lib/pilothouse/models"
    assert mounts["models"]["readOnly"] is True
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes["models"]
    shared = {volume["name"]: volume for volume in render("models-volume").pod("policy")["volumes"]}
    assert shared["models"]["persistentVolumeClaim"] == {"claimName": f"{FULL_NAME}-models"}


def test_what_the_user_adds_is_there(render: Renderer) -> None:
    rendered = render("extras")
    pod, container = rendered.pod("policy"), rendered.container("policy")
    assert {"name": "OMP_NUM_THREADS", "value": "4"} in container["env"]
    assert container["envFrom"] == [{"configMapRef": {"name": "more"}}]
    assert {"name": "scratch", "mountPath": "/scratch"} in container["volumeMounts"]
    assert {"name": "scratch", "emptyDir": {}} in pod["volumes"]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in pod["volumes"]
    assert "livenessProbe" not in container
    assert pod["terminationGracePeriodSeconds"] == 900
    assert rendered.workload("policy")["spec"]["strategy"] == {"type": "Recreate"}
    metadata = rendered.workload("policy")["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "rlhf"
    assert metadata["annotations"]["sidecar.istio.io/inject"] == "false"


def test_ports_of_the_configuration_hold_everywhere(render: Renderer) -> None:
    rendered = render("whole-config")
    ports = {port["name"]: port["containerPort"] for port in rendered.container("policy")["ports"]}
    assert ports == {"grpc": 7001, "weights": 7002, "http": 7101}
    assert rendered.one("Service", "weights")["spec"]["ports"][0]["port"] == 7002
    assert (
        rendered.config()["ppo"]["services"]["policy"] == f"kubernetes:///{FULL_NAME}-policy.{NAMESPACE}:7001"
    )
    assert rendered.config()["policy"]["catch_up"]["peers"][0].endswith(":7002")


def test_images_come_from_where_they_are_said_to_be(render: Renderer) -> None:
    rendered = render("private-registry")
    digest = "0123456789abcdef" * 4
    assert (
        rendered.container("policy")["image"]
        == f"registry.example.org/team/pilothouse/policy@sha256:{digest}"
    )
    assert rendered.container("reward")["image"] == "registry.example.org/team/pilothouse/reward:1e3"
    assert rendered.container("trainer")["image"] == "registry.example.org/team/forks/trainer:0123"
    assert rendered.pod("policy")["imagePullSecrets"] == [{"name": "registry-login"}]
    assert rendered.container("policy")["imagePullPolicy"] == "Always"


def test_switched_off_it_is_not_there(render: Renderer) -> None:
    rendered = render("services-elsewhere")
    assert rendered.names("Deployment") == set()
    assert {"policy", "weights"}.isdisjoint(rendered.names("Service"))
