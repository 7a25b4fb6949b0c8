"""templates/trainer.yaml."""

import re

import pytest

from .rendering import FULL_NAME, NAMESPACE, RefusedError, Renderer

RUN = ["pilothouse", "train", "ppo", "--config", "/etc/pilothouse/pilothouse.toml"]


def job_name(render: Renderer, *layers: str | dict[str, object], version: str = "1.37.0") -> str:
    return str(render(*layers, version=version).workload("trainer")["metadata"]["name"])


def test_it_is_a_job_that_may_start_again(render: Renderer) -> None:
    job = render().workload("trainer")
    assert job["kind"] == "Job"
    assert job["spec"]["backoffLimit"] == 20
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # failed pods keep their logs
    assert render().container("trainer")["command"] == RUN
    assert "preStop" not in str(render().container("trainer"))


def test_it_keeps_its_runs_on_a_volume(render: Renderer) -> None:
    rendered = render()
    volumes = {volume["name"]: volume for volume in rendered.pod("trainer")["volumes"]}
    assert volumes["runs"]["persistentVolumeClaim"] == {"claimName": f"{FULL_NAME}-runs"}
    container = rendered.container("trainer")
    assert {"name": "runs", "mountPath": "/var/lib/pilothouse/runs"} in container["volumeMounts"]
    assert container["workingDir"] == "/var/lib/pilothouse"  # runs/ and data/ of the configuration


def test_an_upgrade_that_changes_nothing_of_it_leaves_it_alone(render: Renderer) -> None:
    others: list[dict[str, object]] = [
        {"policy": {"replicas": 3}},
        {"config": {"policy": {"max_running": 8}, "feedback": {"undo_seconds": 1}}},
        {"reward": {"image": {"tag": "other"}}},
        {"trainer": {"job": {"backoffLimit": 3, "activeDeadlineSeconds": 60}}},
    ]
    assert {job_name(render, values) for values in others} == {job_name(render)}


def test_an_upgrade_that_changes_it_makes_another_job(render: Renderer) -> None:
    others: list[dict[str, object]] = [
        {"trainer": {"image": {"tag": "other"}}},
        {"config": {"ppo": {"total_steps": 7}}},
        {"trainer": {"data": {"files": {"prompts.jsonl": "{}"}}}},
        {"trainer": {"resources": {"limits": {"memory": "8Gi"}}}},
        {"tls": {"mode": "none"}},
    ]
    names = [job_name(render), *(job_name(render, values) for values in others)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(rf"{FULL_NAME}-trainer-[0-9a-f]{{8}}", name) for name in names)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ("default", {"ppo"}),
        ("supervised", {"sft"}),
        ("loop", {"loop", "reward_model", "ppo"}),
        ({"trainer": {"command": ["train", "reward-model"]}}, {"reward_model"}),
        ({"trainer": {"command": ["eval"]}}, {"evaluation"}),
        ({"trainer": {"command": ["other"]}}, {"sft", "reward_model", "ppo", "evaluation", "loop"}),
    ],
)
def test_it_starts_anew_for_the_sections_that_its_command_reads(
    render: Renderer, values: str | dict[str, object], read: set[str]
) -> None:
    def digest(change: dict[str, object]) -> str:
        pod = render(values, {"config": change}).workload("trainer")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    changes: dict[str, dict[str, object]] = {
        "sft": {"seed": 7},
        "reward_model": {"seed": 7},
        "ppo": {"seed": 7},
        "evaluation": {"seed": 7},
        "loop": {"queue": "other"},
    }
    before = digest({})
    assert {name for name, change in changes.items() if digest({name: change}) != before} == read


def test_what_cannot_be_changed_of_a_job_is_in_its_name(render: Renderer) -> None:
    """The API server refuses an upgrade that changes more, and it may be a newer one than at the last."""
    changeable = {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "parallelism"}
    found: dict[str, dict[str, object]] = {}
    for values in ("default", "ranks", "supervised"):
        for version in ("1.22.0", "1.25.9", "1.26.0", "1.37.0"):
            spec = render(values, version=version).workload("trainer")["spec"]
            fixed = {key: value for key, value in spec.items() if key not in changeable}
            assert found.setdefault(job_name(render, values, version=version), fixed) == fixed
    assert len(found) == 6  # nothing else hangs on the version


def test_eviction_is_no_failure_and_a_wrong_configuration_is_not_tried_again(render: Renderer) -> None:
    rules = render(version="1.26.0").workload("trainer")["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [2]}
    assert "podFailurePolicy" not in render(version="1.25.9").workload("trainer")["spec"]


def test_it_alone_has_a_token_for_the_api_server(render: Renderer) -> None:
    with_token = {name for name, pod in render().pods() if pod["spec"]["automountServiceAccountToken"]}
    assert with_token == {f"Job/{job_name(render)}"}


def test_it_follows_policy_pods_and_asks_the_others_by_dns(render: Renderer) -> None:
    services = render().config()["ppo"]["services"]
    assert services["policy"] == f"kubernetes:///{FULL_NAME}-policy.{NAMESPACE}:50051"
    assert services["weights"] == f"kubernetes:///{FULL_NAME}-weights.{NAMESPACE}:50052"
    assert services["reward"] == f"dns:///{FULL_NAME}-reward.{NAMESPACE}.svc:50051"
    assert services["reference"] == f"dns:///{FULL_NAME}-reference.{NAMESPACE}.svc:50051"


def test_it_holds_a_lease(render: Renderer) -> None:
    assert render().config()["ppo"]["lease"] == {"name": f"{FULL_NAME}-trainer", "namespace": NAMESPACE}


def test_several_ranks_are_an_indexed_job_that_meets_at_rank_0(render: Renderer) -> None:
    rendered = render("ranks")
    job = rendered.workload("trainer")
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    assert job["spec"]["backoffLimit"] == 20 * 4  # a rank that is lost ends all, and pods are counted
    pod = rendered.pod("trainer")
    host = f"{FULL_NAME}-trainer-ranks"
    assert pod["subdomain"] == host
    environment = {entry["name"]: entry for entry in rendered.container("trainer")["env"]}
    assert environment["WORLD_SIZE"]["value"] == "4"
    assert environment["MASTER_ADDR"]["value"] == f"{job['metadata']['name']}-0.{host}.{NAMESPACE}.svc"
    assert environment["MASTER_PORT"]["value"] == "29500"
    assert "job-completion-index" in environment["RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    service = rendered.one("Service", "trainer-ranks")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert [port["port"] for port in service["ports"]] == [29500]
    assert rendered.container("trainer")["command"] == RUN
    assert not [key for key in rendered.container("trainer") if key.endswith("Probe")]


def test_the_name_of_a_rank_is_a_host_name(render: Renderer) -> None:
    rendered = render("ranks", release="a-release-with-a-name-as-long-as-helm-takes-it-really")
    assert len(rendered.workload("trainer")["metadata"]["name"] + "-999") <= 63


def test_several_gpus_of_a_pod_have_a_process_each(render: Renderer) -> None:
    command = render("eight-gpus").container("trainer")["command"]
    torchrun = ["torchrun", "--shutdown-timeout=585"]  # of a grace of 600
    assert command == [*torchrun, "--nproc-per-node=4", "--standalone", "--no-python", *RUN]
    command = render("ranks-gpus").container("trainer")["command"]
    assert command[:4] == [*torchrun, "--nproc-per-node=8", "--nnodes=2"]
    assert "--node-rank=$(RANK)" in command
    assert render("ranks-gpus").config()["ppo"]["device"] == "cuda"  # each process its own
    with pytest.raises(RefusedError, match=r"config.ppo.device is cuda:0 and the pod has 4 GPUs"):
        render("eight-gpus", {"config": {"ppo": {"device": "cuda:0"}}})


def test_what_opens_no_ports_is_asked_nothing(render: Renderer) -> None:
    asked = {"startupProbe", "readinessProbe", "livenessProbe"}
    assert asked <= set(render("supervised").container("trainer"))
    assert not asked & set(render({"trainer": {"command": ["eval"]}}).container("trainer"))


def test_its_ports_open_before_it_waits_for_anything(render: Renderer) -> None:
    probe = render().container("trainer")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 600  # reading its libraries


def test_a_loop_that_is_replaced_is_not_late_while_its_predecessor_ends(render: Renderer) -> None:
    rendered = render("loop")
    grace = rendered.pod("trainer")["terminationGracePeriodSeconds"]
    assert rendered.workload("trainer")["spec"]["progressDeadlineSeconds"] >= grace + 600 + 60


def test_ranks_that_cannot_be_are_refused(render: Renderer) -> None:
    with pytest.raises(
        RefusedError, match=r"Indexed Jobs need Kubernetes 1.22, this is v1.20.2; set trainer.ranks=1"
    ):
        render("ranks", version="1.20.2")
    with pytest.raises(RefusedError, match=r"all of them mount the runs; set persistence.runs.accessModes"):
        render({"trainer": {"ranks": 2}})
    with pytest.raises(RefusedError, match=r"a loop has one process"):
        render("loop", "ranks")


def test_a_loop_goes_on_and_makes_room_for_its_successor_first(render: Renderer) -> None:
    rendered = render("loop")
    found = rendered.workload("trainer")
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 1)
    assert found["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.container("trainer")["command"][:2] == ["pilothouse", "loop"]
    assert not [key for key in rendered.container("trainer") if key.endswith("Probe")]
    assert not rendered.all("Job")


def test_other_stages_are_jobs_too(render: Renderer) -> None:
    rendered = render("supervised")
    assert rendered.container("trainer")["command"][:3] == ["pilothouse", "train", "sft"]
    spec = rendered.workload("trainer")["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (86400, 604800)
    volumes = {volume["name"]: volume for volume in rendered.pod("trainer")["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "demonstrations", "readOnly": True}


def test_services_that_it_needs_must_be_there(render: Renderer) -> None:
    with pytest.raises(RefusedError, match=r"reward.enabled is false and the trainer needs it"):
        render({"reward": {"enabled": False}})
    with pytest.raises(RefusedError, match=r"feedback.enabled is false and the loop needs it"):
        render("loop", {"feedback": {"enabled": False}})
    assert render("services-elsewhere").workload("trainer")
    with pytest.raises(RefusedError, match=r"set config.ppo.services.weights to where they go"):
        render({"policy": {"enabled": False}, "config": {"ppo": {"services": {"policy": "dns:///p:1"}}}})
    assert render("supervised", {"policy": {"enabled": False}}).workload("trainer")  # no PPO


def test_there_is_one(render: Renderer) -> None:
    for more in ({"replicas": 2}, {"autoscaling": {"enabled": True}}, {"keda": {"enabled": True}}):
        with pytest.raises(RefusedError, match=r"trainer: there is one"):
            render({"trainer": more})
