"""What holds for every object under every value set."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from .rendering import (
    FULL_NAME,
    INDEXED_JOBS,
    OLDEST,
    POD_KINDS,
    VALUES,
    Manifest,
    RefusedError,
    Rendered,
    Renderer,
    containers,
)

LAST_THREE = ("1.35.0", "1.36.0", "1.37.0")
CUSTOM = Path(__file__).parent / "custom.yaml"
"""Schemas of the kinds that others define, as CustomResourceDefinitions of what the chart writes."""

each_set = pytest.mark.parametrize("values", sorted(VALUES))


@pytest.fixture(autouse=True)
def _schemas_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "schema_contents", schema_contents)


@functools.cache
def schema_contents(file: str, version: str) -> Any:
    return _READ(file, version)


_READ = utils.schema_contents


@functools.cache
def custom_schemas() -> dict[tuple[str, str], Any]:
    """Returns strict schemas by apiVersion and kind: no key but those that are listed."""
    found = {}
    for definition in yaml.safe_load_all(CUSTOM.read_text()):
        spec = definition["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[key] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Any) -> Any:
    """Closes every object whose keys are listed."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


_valid: set[tuple[str, str]] = set()
"""Objects that were found valid, with the version: most are the same under many value sets."""


def check(found: Manifest, version: str) -> None:
    """Validates an object against the schema of its kind; one without a schema is an error."""
    key = json.dumps(found, sort_keys=True), version
    if key in _valid:
        return
    custom = custom_schemas().get((found["apiVersion"], found["kind"]))
    if custom is None:
        kubernetes_validate.validate(found, version, strict=True)
    else:
        jsonschema.Draft202012Validator(custom).validate(found)
    _valid.add(key)


def test_there_are_value_sets_enough() -> None:
    assert len(VALUES) >= 25


@each_set
def test_every_object_is_valid(render: Renderer, values: str) -> None:
    rendered = render(values)
    assert rendered.objects
    for found in rendered.objects:
        for version in LAST_THREE:
            check(found, version)


def test_the_last_three_versions_get_the_same(render: Renderer) -> None:
    for values in ("default", "autoscaling-queue"):
        first, *others = [without_secrets(render(values, version=version)) for version in LAST_THREE]
        assert all(other == first for other in others)


@pytest.mark.parametrize("values", ["autoscaling-queue", "ranks", "scheduling"])
def test_versions_between_the_oldest_and_the_newest_are_served_too(render: Renderer, values: str) -> None:
    for version in ("1.25.0", "1.30.0"):
        for found in render(values, version=version).objects:
            check(found, version)


def test_the_oldest_version_gets_nothing_that_it_does_not_know(render: Renderer) -> None:
    """Its own API server is asked in test_api_server.py; the words that came later are told here."""
    for values in sorted(set(VALUES) - INDEXED_JOBS):
        text = render.text(values, version=OLDEST)
        for word in ("policy/v1\n", "autoscaling/v2\n", "podFailurePolicy", "completionMode", "grpc:\n"):
            assert word not in text, values


def test_a_misspelt_key_is_found(render: Renderer) -> None:
    (found,) = [one for one in render().objects if one["kind"] == "ServiceAccount"][:1]
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**found, "automountServiceAccountTokens": False}, LAST_THREE[-1])
    (route,) = render("gateway").all("HTTPRoute")
    with pytest.raises(jsonschema.ValidationError):
        check({**route, "spec": {**route["spec"], "hostname": "a"}}, LAST_THREE[-1])


def pods(render: Renderer, values: str) -> Iterator[tuple[str, Manifest]]:
    for name, pod in render(values).pods():
        yield name, pod["spec"]


@each_set
def test_pod_security_is_restricted_everywhere(render: Renderer, values: str) -> None:
    """The level "restricted" of Kubernetes' pod security standards, and more."""
    for name, spec in pods(render, values):
        of_pod = spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True, name
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert of_pod.get("runAsUser", 10001) != 0, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"} & set(spec), name
        for volume in spec["volumes"]:
            (kind,) = set(volume) - {"name"}
            assert kind in {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}, (name, volume)
        for container in containers(spec):
            security = container["securityContext"]
            assert security == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, container["name"])
            assert "memory" in container["resources"]["limits"], (name, container["name"])
            assert not any("hostPort" in port for port in container.get("ports", ()))


@each_set
def test_a_process_that_is_still_starting_hears_that_it_is_to_end(render: Renderer, values: str) -> None:
    """As a container's first process it would not: the kernel drops signals that nobody has asked for."""
    for name, spec in pods(render, values):
        assert spec["shareProcessNamespace"] is True, name


@each_set
def test_nothing_grows_without_bound_in_a_pod(render: Renderer, values: str) -> None:
    own = {"scratch"}  # what a value set adds itself
    for name, spec in pods(render, values):
        for volume in spec["volumes"]:
            if "emptyDir" in volume and volume["name"] not in own:
                assert volume["emptyDir"]["sizeLimit"], (name, volume["name"])


@each_set
def test_only_the_trainer_has_a_token(render: Renderer, values: str) -> None:
    for name, pod in render(values).pods():
        trainer = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "trainer"
        assert pod["spec"]["automountServiceAccountToken"] is trainer, name
        assert pod["spec"]["enableServiceLinks"] is False, name


@each_set
def test_every_port_says_its_protocol_and_every_reference_is_there(render: Renderer, values: str) -> None:
    rendered = render(values)
    for service in rendered.all("Service"):
        assert all(port["protocol"] == "TCP" for port in service["spec"]["ports"])
    made = {(found["kind"], found["metadata"]["name"]) for found in rendered.objects}
    made |= {("Secret", one["spec"]["secretName"]) for one in rendered.all("Certificate")}
    for name, pod in rendered.pods():
        for kind, wanted in references(pod["spec"]):
            if wanted.startswith(FULL_NAME):
                assert (kind, wanted) in made, (name, kind, wanted)
        for container in containers(pod["spec"]):
            ports = container.get("ports", ())
            assert all(port["protocol"] == "TCP" and len(port["name"]) <= 15 for port in ports), name
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in pod["spec"]["volumes"]}, (name, container["name"])


def references(spec: Manifest) -> Iterator[tuple[str, str]]:
    """Yields kind and name of what a pod mounts or runs as."""
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for source in volume.get("projected", {}).get("sources", ()):
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if key in source:
                    yield kind, source[key]["name"]


@each_set
def test_names_are_taken_once_and_labels_say_whose_they_are(render: Renderer, values: str) -> None:
    objects = render(values).objects
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))
    for found in objects:
        metadata = found["metadata"]
        assert metadata["namespace"] == "rl", metadata["name"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == "run", metadata["name"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert len(metadata["name"]) <= 63
        if found["kind"] in POD_KINDS - {"Pod", "Job"}:
            selector = found["spec"]["selector"]["matchLabels"]
            assert selector.items() <= found["spec"]["template"]["metadata"]["labels"].items()
            assert "helm.sh/chart" not in found["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("values", ["default", "loop", "whole-config", "triton-gpu"])
def test_a_rendering_repeats_itself_but_for_its_certificates(render: Renderer, values: str) -> None:
    assert without_secrets(render(values, {})) == without_secrets(render(values))


def without_secrets(rendered: Rendered) -> list[Manifest]:
    return [found for found in rendered.objects if found["kind"] != "Secret"]


def test_text_stays_text_for_every_reader_of_yaml(render: Renderer) -> None:
    """Go's YAML reads y, on, 1e3 and 0123 as something else; what is not quoted must be none of these."""
    text = render.text("words-that-look-like-others")
    for line in text.splitlines():
        found = re.match(
            r"^\s*(?:- )?[\w./\"-]+: (y|n|on|off|yes|no|~|[0-9_]+e[0-9]+|0[0-9]+|0x[0-9a-f]+|1_000)$", line
        )
        assert not found, line
    for _, pod in render("words-that-look-like-others").pods():
        assert all(isinstance(value, str) for value in pod["metadata"].get("annotations", {}).values())


def test_indexed_jobs_are_refused_where_they_are_not(render: Renderer) -> None:
    for values in INDEXED_JOBS:
        with pytest.raises(RefusedError, match=r"Indexed Jobs need Kubernetes 1\.22"):
            render(values, version=OLDEST)
        assert render(values, version="1.22.0")
