"""The chart as a whole: lint, version, notes, packaging."""

import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from .rendering import CHART, COMPONENTS, ROOT, VALUES, RefusedError, Renderer


def test_lint_has_nothing_to_say(render: Renderer) -> None:
    render.helm("lint", "--strict", str(CHART))
    for values in ("loop", "whole-config", "triton"):
        render.helm("lint", "--strict", "--quiet", str(CHART), "--values", str(VALUES[values]))


def test_its_version_is_that_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == ">=1.20.0-0"


def test_every_template_has_a_test_file_of_its_own() -> None:
    templates = CHART / "templates"
    for file in templates.rglob("*.yaml"):
        place = file.relative_to(templates).with_suffix("").as_posix()
        name = place.replace("/", "_").replace("-", "_")
        if name.startswith("observability_"):
            name = "observability_templates"  # three objects around files that have tests of their own
        test = Path(__file__).with_name(f"test_{name}.py")
        assert test.exists(), f"templates/{place}.yaml has no {test.name}"


def test_a_package_has_everything_it_needs(render: Renderer, tmp_path: Path) -> None:
    render.helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = set(archive.getnames())
    for needed in ("values.schema.json", "files/prompts.jsonl", "files/triton/1/model.py", "files/check.py"):
        assert f"pilothouse/{needed}" in names
    assert render.helm("template", "run", str(package))


def test_replicas_of_the_defaults_are_for_those_that_can_have_them(render: Renderer) -> None:
    rendered = render({"defaults": {"replicas": 2}})
    counts = {name: rendered.workload(name)["spec"].get("replicas") for name in COMPONENTS}
    assert counts == {"policy": 2, "reward": 2, "reference": 2, "feedback": 1, "trainer": None}
    for scaler in (
        {"autoscaling": {"enabled": True}},
        {"keda": {"enabled": True, "serverAddress": "http://p"}},
    ):
        scaled = {
            name
            for kind in ("HorizontalPodAutoscaler", "ScaledObject")
            for name in render({"defaults": scaler}).names(kind)
        }
        assert scaled == {"policy", "reward", "reference"}


def notes(render: Renderer, *values: str) -> str:
    """Returns them under value sets, and under single values, KEY=VALUE."""
    words = []
    for name in values:
        words += ["--values", str(VALUES[name])] if name in VALUES else ["--set", name]
    try:
        text = render.helm("install", "run", str(CHART), "--dry-run=client", "--namespace", "rl", *words)
    except RefusedError as error:
        if "cluster unreachable" in str(error):
            pytest.skip("Helm 3 shows no notes without a cluster")
        raise
    return text.split("NOTES:", 1)[1]


@pytest.mark.parametrize(
    "values",
    ["default", "services-only", "ingress", "postgresql", "one-service", "loop", "trainer.kind=none"],
)
def test_notes_have_the_next_three_commands(render: Renderer, values: str) -> None:
    text = notes(render, values)
    commands = [line for line in text.splitlines() if line.startswith("   ")]
    assert len(commands) == 3
    assert all("rl" in line for line in commands)
    assert [line for line in text.splitlines() if line[:2] in ("1.", "2.", "3.")]


def test_notes_wait_for_services_and_not_for_pods_that_end(render: Renderer) -> None:
    """The pod of a test that failed, for example, is never Ready again."""
    (wait,) = [line for line in notes(render, "default").splitlines() if "wait pod" in line]
    assert "component notin (trainer,test,migration)" in wait


def test_notes_do_not_watch_a_trainer_that_waits_for_jobs(render: Renderer) -> None:
    assert "pilothouse cluster submit" in notes(render, "trainer.kind=none")
    assert "component=trainer" in notes(render, "default")


def test_notes_forward_the_page_where_nothing_leads_to_it(render: Renderer) -> None:
    assert "port-forward service/run-pilothouse-page" in notes(render, "default")
    assert "port-forward" not in notes(render, "ingress")
    assert "port-forward" not in notes(render, "gateway")
    assert "port-forward" in notes(render, "gateway", "gateway.page.enabled=false")


def test_notes_tell_of_replicas_that_a_step_leaves_idle(render: Renderer) -> None:
    assert "a step asks 1 of the 8 policy pods at a time" in notes(render, "ranks-gpus")
    assert "at a time" not in notes(render, "default")
    assert "at a time" not in notes(render, "services-only")


def test_notes_warn_of_open_doors(render: Renderer) -> None:
    assert "WARNING" not in notes(render, "default")
    assert "tls.mode is none" in notes(render, "no-tls")
    assert "networkPolicy.enabled is false" in notes(render, "no-network-policies")
    assert "passwords travel unencrypted" in notes(render, "ingress-plain")
