import base64
import json
import os
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import Run
from tests.cluster.conftest import names
from tests.cluster.installed import CONFIG, add_job, add_workload, install, metadata, set_job, template

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.kinds import CONFIG_MAP, JOB, Kind, Object, at
from pilothouse.cluster.release import find_release
from pilothouse.cluster.run_files import MAX_BYTES, run_files
from pilothouse.cluster.submitting import prepare, submit
from pilothouse.cluster.toml import dumps

LAPTOP = """
[policy]
model = "tiny"
[ppo]
model = "models/smollm2"
total_steps = 7
device = "cpu"
server = { port = 7005, http_port = 7105 }
[ppo.policy]
learning_rate = 1e-5
[ppo.rollout]
prompts = ["prompts.jsonl"]
prompts_per_step = 4
[ppo.services]
policy = "127.0.0.1:7001"
weights = "127.0.0.1:7002"
reward = "127.0.0.1:7003"
reference = "127.0.0.1:7004"
call_timeout_seconds = 60
"""


def add_template(api: Api) -> None:
    """As the chart makes it."""
    made = template("trainer")
    made["spec"]["containers"][0]["command"] = [
        "pilothouse", "train", "ppo", "--config", "/etc/pilothouse/pilothouse.toml",
    ]  # fmt: skip
    made["spec"]["containers"][0]["livenessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}}
    sources = [{"configMap": {"name": "RUN_NAME"}}]
    made["spec"]["volumes"] = [{"name": "config", "projected": {"sources": sources}}]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata("RUN_NAME", "trainer"),
        "spec": {"backoffLimit": 20, "template": made},
    }
    content = {"job.yaml": yaml.safe_dump(job)}
    api.create(CONFIG_MAP, {"metadata": metadata("demo-job-template", "trainer"), "data": content})


@pytest.fixture
def here(api: Api, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The options that name the cluster; the current folder has a laptop's configuration."""
    install(api)
    add_template(api)
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "ä"}\n', encoding="utf-8")
    Path("laptop.toml").write_text(LAPTOP)
    return ["--kubeconfig", kubeconfig, "--namespace", api.namespace]


def config_of(settings: Object) -> dict[str, Any]:
    return tomllib.loads(settings["data"]["pilothouse.toml"])


def test_a_laptops_file_trains_in_the_cluster(run: Run, api: Api, here: list[object]) -> None:
    ran = run("cluster", "submit", "laptop.toml", *here, "--name", "a-run", "--set", "ppo.total_steps=9")
    assert ran.status == Exit.OK, ran.err
    assert "job a-run is created" in ran.out
    assert "[policy]" in ran.err
    settings = api.get(CONFIG_MAP, "a-run")
    ppo = config_of(settings)["ppo"]
    assert ppo["total_steps"] == 9
    assert ppo["model"] == "models/smollm2"
    assert ppo["policy"]["learning_rate"] == 1e-5
    assert ppo["device"] == "cuda:0"
    assert ppo["server"] == {"host": "0.0.0.0", "port": 50051, "http_port": 8080}
    assert ppo["services"] == {
        "policy": "kubernetes:///demo-policy.rlhf:50051",
        "weights": "kubernetes:///demo-weights.rlhf:50052",
        "reward": "dns:///demo-reward.rlhf.svc:50051",
        "reference": "dns:///demo-reference.rlhf.svc:50051",
        "wait_seconds": 600,
        "call_timeout_seconds": 60,
    }
    assert ppo["rollout"] == {"prompts": ["/etc/pilothouse/prompts.jsonl"], "prompts_per_step": 4}
    assert settings["data"]["prompts.jsonl"] == '{"prompt": "ä"}\n'


def test_the_job_is_the_charts_own_and_goes_with_the_release(run: Run, api: Api, here: list[object]) -> None:
    run("cluster", "submit", "laptop.toml", *here, "--name", "a-run")
    job = api.get(JOB, "a-run")
    assert job["spec"]["backoffLimit"] == 20
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][:3] == ["pilothouse", "train", "ppo"]
    assert pod["volumes"][0]["projected"]["sources"][0]["configMap"]["name"] == "a-run"
    assert at(job, "metadata", "ownerReferences", 0, "name") == "demo-job-template"
    settings = api.get(CONFIG_MAP, "a-run")
    owner = at(settings, "metadata", "ownerReferences", 0)
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "a-run", job["metadata"]["uid"])
    assert find_release(api).fullname == "demo"  # what was submitted is not taken for a release


def test_a_name_is_made_up_and_one_that_is_taken_refused(run: Run, api: Api, here: list[object]) -> None:
    first = run("cluster", "submit", "laptop.toml", *here, "--json")
    assert first.json["job"].startswith("demo-ppo-")
    assert first.json["files"] == ["pilothouse.toml", "prompts.jsonl"]
    again = run("cluster", "submit", "laptop.toml", *here, "--queue", "--name", first.json["job"])
    assert again.status == Exit.FAILED
    assert "already exists; choose another name" in again.err


def test_a_name_that_no_job_can_have_leaves_nothing_behind(run: Run, api: Api, here: list[object]) -> None:
    before = names(api.list(CONFIG_MAP).items)
    ran = run("cluster", "submit", "laptop.toml", *here, "--name", "Not_A_Name")
    assert ran.status == Exit.USAGE
    long = "a" * 70  # too long for the label of a job's pods, not for a ConfigMap
    assert run("cluster", "submit", "laptop.toml", *here, "--name", long).status == Exit.USAGE
    assert names(api.list(CONFIG_MAP).items) == before
    assert not api.list(JOB).items


@pytest.mark.parametrize("name", ["2026-10-03", "007", "on", "1e3"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(
    run: Run, api: Api, here: list[object], name: str
) -> None:
    ran = run("cluster", "submit", "laptop.toml", *here, "--name", name)
    assert ran.status == Exit.OK, ran.err
    pod = api.get(JOB, name)["spec"]["template"]["spec"]
    assert pod["volumes"][0]["projected"]["sources"][0]["configMap"]["name"] == name


class Interrupted(Api):
    """Ctrl-C while a Job is made: before the server has it, or after."""

    after = False

    def create(self, kind: Kind, body: Object, name: str = "", part: str = "") -> Object:
        if kind is not JOB or self.after:
            super().create(kind, body, name, part)
        if kind is JOB:
            raise KeyboardInterrupt
        return body


def test_an_interruption_leaves_no_data_without_a_job_and_no_job_without_data(
    api: Api, here: list[object]
) -> None:
    release = find_release(api)
    files = run_files(Path("laptop.toml"), [], release.config, None)
    interrupted = Interrupted(api.configuration, api.namespace)
    with pytest.raises(KeyboardInterrupt):
        submit(interrupted, prepare(api, release, files, "early"))
    interrupted.after = True
    with pytest.raises(KeyboardInterrupt):
        submit(interrupted, prepare(api, release, files, "late"))
    assert {"early", "late"} & set(names(api.list(CONFIG_MAP).items)) == {"late"}


def test_one_trains_at_a_time_unless_it_may_queue(run: Run, api: Api, here: list[object]) -> None:
    add_job(api, "first")
    set_job(api, "first", active=1)
    ran = run("cluster", "submit", "laptop.toml", *here)
    assert ran.status == Exit.FAILED
    assert "first trains; wait for it" in ran.err
    assert run("cluster", "submit", "laptop.toml", *here, "--queue").status == Exit.OK
    set_job(api, "first", condition="Complete")


def test_a_loop_that_runs_counts_as_training(run: Run, api: Api, here: list[object]) -> None:
    add_workload(api, "trainer")
    assert "demo-trainer trains" in run("cluster", "submit", "laptop.toml", *here).err


def test_a_dry_run_prints_what_kubectl_can_create(run: Run, api: Api, here: list[object]) -> None:
    ran = run("cluster", "submit", "laptop.toml", *here, "--dry-run", "--name", "a-run")
    settings, job = yaml.safe_load_all(ran.out)
    assert (settings["kind"], job["kind"]) == ("ConfigMap", "Job")
    assert config_of(settings)["ppo"]["total_steps"] == 7
    assert not api.list(JOB).items
    api.create(CONFIG_MAP, settings)
    api.create(JOB, job)
    listed = run("cluster", "submit", "laptop.toml", *here, "--dry-run", "--json", "--name", "a-run").json
    assert listed == {"apiVersion": "v1", "kind": "List", "items": [settings, job]}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["--set", "ppo.total_stps=3"], "did you mean 'total_steps'?"),
        (["--set", "ppo.model=/home/me/model"], "ppo.model = '/home/me/model' is a folder of this machine"),
        (["--set", 'ppo.rollout.prompts=["nowhere.jsonl"]'], "there is no file nowhere.jsonl here"),
        (["--set", "ppo.run.folder=/tmp/x"], "would be lost with the pod"),
        (["--set", "ppo.run.folder=runs/../.."], "would be lost with the pod"),
        (["--task", "dance"], "--task dance is unknown"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_made(
    run: Run, api: Api, here: list[object], settings: list[str], problem: str
) -> None:
    ran = run("cluster", "submit", "laptop.toml", *here, *settings)
    assert ran.status == Exit.USAGE
    assert problem in ran.err
    assert not api.list(JOB).items


def test_data_on_a_volume_are_left_there(run: Run, api: Api, here: list[object]) -> None:
    on_volumes = '["data/p.jsonl", "runs/p.jsonl", "/var/lib/pilothouse/models/p.jsonl"]'
    run(
        "cluster", "submit", "laptop.toml", *here, "--name", "a", "--set", f"ppo.rollout.prompts={on_volumes}"
    )
    assert config_of(api.get(CONFIG_MAP, "a"))["ppo"]["rollout"]["prompts"] == json.loads(on_volumes)


def test_data_too_large_for_a_config_map_are_refused_with_the_largest_file(
    run: Run, api: Api, here: list[object]
) -> None:
    Path("prompts.jsonl").write_text("x" * MAX_BYTES)
    ran = run("cluster", "submit", "laptop.toml", *here)
    assert ran.status == Exit.USAGE
    assert "prompts.jsonl to the data or runs volume" in ran.err


def test_what_is_far_too_large_is_not_even_read(run: Run, api: Api, here: list[object]) -> None:
    os.truncate("prompts.jsonl", 2**26)
    tracemalloc.start()
    try:
        ran = run("cluster", "submit", "laptop.toml", *here)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ran.status == Exit.USAGE
    assert most < 2**26
    assert "prompts.jsonl to the data or runs volume" in ran.err


def test_a_device_of_the_laptop_stays_there(run: Run, api: Api, here: list[object]) -> None:
    config = CONFIG.replace('device = "cuda:0"\n', "")
    api.patch(CONFIG_MAP, "demo", {"data": {"pilothouse.toml": config}})
    run("cluster", "submit", "laptop.toml", *here, "--name", "a", "--set", "ppo.device=cuda:1")
    assert "device" not in config_of(api.get(CONFIG_MAP, "a"))["ppo"]


def test_files_of_one_name_and_files_that_are_no_text_come_along(
    run: Run, api: Api, here: list[object]
) -> None:
    Path("other").mkdir()
    Path("other/prompts.jsonl").write_bytes(b"PAR1\xff\xfe")
    files = '["prompts.jsonl", "other/prompts.jsonl", "prompts.jsonl"]'
    run("cluster", "submit", "laptop.toml", *here, "--name", "a", "--set", f"ppo.rollout.prompts={files}")
    settings = api.get(CONFIG_MAP, "a")
    places = [f"/etc/pilothouse/{name}" for name in ("prompts.jsonl", "1-prompts.jsonl", "prompts.jsonl")]
    assert config_of(settings)["ppo"]["rollout"]["prompts"] == places
    assert base64.b64decode(settings["binaryData"]["1-prompts.jsonl"]) == b"PAR1\xff\xfe"


def test_of_several_trainings_one_must_be_chosen(run: Run, api: Api, here: list[object]) -> None:
    Path("both.toml").write_text(
        LAPTOP + '[sft]\nmodel = "tiny"\ndata = ["prompts.jsonl"]\noutput = "runs/s"\n'
    )
    assert "sections for ppo, sft; say which with --task" in run("cluster", "submit", "both.toml", *here).err
    ran = run("cluster", "submit", "both.toml", *here, "--task", "sft", "--name", "s")
    assert ran.status == Exit.OK, ran.err
    command = api.get(JOB, "s")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command == ["pilothouse", "train", "sft", "--config", "/etc/pilothouse/pilothouse.toml"]
    assert config_of(api.get(CONFIG_MAP, "s"))["sft"]["server"] == {"port": 50051}


def test_an_evaluation_opens_no_port_and_is_not_killed_for_it(run: Run, api: Api, here: list[object]) -> None:
    Path("eval.toml").write_text('[evaluation]\nmodel = "tiny"\nprompts = ["prompts.jsonl"]\n')
    assert run("cluster", "submit", "eval.toml", *here, "--name", "e").status == Exit.OK
    (container,) = api.get(JOB, "e")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["pilothouse", "eval"]
    assert not {"livenessProbe", "ports"} & container.keys()
    run("cluster", "submit", "laptop.toml", *here, "--name", "p", "--queue")
    (container,) = api.get(JOB, "p")["spec"]["template"]["spec"]["containers"]
    assert "livenessProbe" in container


def test_a_file_without_a_training_is_refused(run: Run, api: Api, here: list[object]) -> None:
    Path("services.toml").write_text('[policy]\nmodel = "tiny"\n')
    assert "nothing to do in this file" in run("cluster", "submit", "services.toml", *here).err


def test_a_release_without_a_template_says_what_makes_one(
    run: Run, api: Api, kubeconfig: Path, here: list[object]
) -> None:
    api.delete(CONFIG_MAP, "demo-job-template")
    ran = run("cluster", "submit", "laptop.toml", *here)
    assert ran.status == Exit.FAILED
    assert "`helm upgrade` it with trainer.enabled=true" in ran.err


@pytest.mark.parametrize(
    "values",
    [
        {"a": {"b": 1, "c": {"d": [1.5, True, "x\"\n\x7f'é"]}}},
        {"a": {"odd 😀 key\x7f": {"x": 1e-5}, "list": [{"k": "v"}, {}]}, "b": {}},
        {"a": {"nested": [[1], ["x"]], "big": 10**15, "inf": float("inf")}},
    ],
)
def test_toml_that_is_written_is_read_as_it_was(values: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(values)) == values
