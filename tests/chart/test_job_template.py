"""templates/job-template.yaml."""

from typing import Any

import yaml

from .rendering import FULL_NAME, OLDEST, Renderer


def template(render: Renderer, *layers: str | dict[str, object], version: str = "1.37.0") -> dict[str, Any]:
    """Returns the Job in the template."""
    rendered = render(*layers, version=version)
    job: dict[str, Any] = yaml.safe_load(rendered.one("ConfigMap", "job-template")["data"]["job.yaml"])
    return job


def test_it_is_the_trainers_own_job_under_another_name(render: Renderer) -> None:
    own, job = render().workload("trainer"), template(render)
    assert job["metadata"]["name"] == "RUN_NAME"
    assert job["metadata"]["labels"] == own["metadata"]["labels"]
    theirs, mine = own["spec"]["template"]["spec"], job["spec"]["template"]["spec"]
    assert mine["containers"] == theirs["containers"]
    assert mine["securityContext"] == theirs["securityContext"]
    assert [volume["name"] for volume in mine["volumes"]] == [volume["name"] for volume in theirs["volumes"]]


def test_it_reads_the_runs_own_files_beside_the_trainers_certificate(render: Renderer) -> None:
    volumes = template(render)["spec"]["template"]["spec"]["volumes"]
    (config,) = [volume["projected"] for volume in volumes if volume["name"] == "config"]
    assert config["sources"][0] == {"configMap": {"name": "RUN_NAME"}}  # every file of it
    assert config["sources"][1]["secret"]["name"] == f"{FULL_NAME}-trainer-tls"


def test_the_ranks_of_a_run_meet_at_the_runs_own_pod(render: Renderer) -> None:
    container = template(render, "ranks")["spec"]["template"]["spec"]["containers"][0]
    (address,) = [each["value"] for each in container["env"] if each["name"] == "MASTER_ADDR"]
    assert address.startswith(f"RUN_NAME-0.{FULL_NAME}-trainer-ranks.")


def test_it_is_there_for_a_loop_and_where_nothing_trains_by_itself(render: Renderer) -> None:
    loop = {"trainer": {"kind": "loop"}, "config": {"loop": {"prompts": ["data/prompts.jsonl"]}}}
    assert template(render, loop)["kind"] == "Job"
    rendered = render({"trainer": {"kind": "none"}})
    assert not [job for job in rendered.all("Job") if "trainer" in job["metadata"]["name"]]
    assert template(render, {"trainer": {"kind": "none"}})["kind"] == "Job"
    assert "trainer" in rendered.names("Service")
    assert "runs" in rendered.names("PersistentVolumeClaim")


def test_it_is_not_there_without_a_trainer(render: Renderer) -> None:
    assert "job-template" not in render({"trainer": {"enabled": False}}).names("ConfigMap")


def test_old_clusters_get_no_field_that_they_do_not_know(render: Renderer) -> None:
    assert "podFailurePolicy" not in template(render, version=OLDEST)["spec"]
    assert "podFailurePolicy" in template(render)["spec"]
