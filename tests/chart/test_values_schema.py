"""values.schema.json: made from the classes that read the configuration, and refusing what they refuse."""

import importlib.util
import json
from typing import Any

import jsonschema
import pytest
import yaml

from pilothouse import sections

from .rendering import CHART, COMPONENTS, ROOT, VALUES, RefusedError, Renderer


def schema() -> dict[str, Any]:
    return dict(json.loads((CHART / "values.schema.json").read_text()))


def default_values() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_the_committed_schema_is_what_its_sources_say() -> None:
    specification = importlib.util.spec_from_file_location("chart_schema", ROOT / "helm/schema.py")
    assert specification is not None
    assert specification.loader is not None
    generator = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(generator)
    assert generator.values_schema() == schema(), "run 'make chart-schema' and commit"


def test_it_is_a_schema_that_helm_3_and_helm_4_read() -> None:
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema())


def test_it_knows_every_key_of_the_values_and_no_other() -> None:
    assert set(schema()["properties"]) == set(default_values()) | {"global"}
    block = set(default_values()["defaults"])
    assert set(schema()["definitions"]["block"]["properties"]) == block
    for component in COMPONENTS:
        keys = set(schema()["properties"][component]["properties"])
        assert block | {"enabled"} <= keys
        assert set(default_values()[component]) <= keys


def test_it_knows_every_key_of_the_configuration() -> None:
    config = schema()["properties"]["config"]["properties"]
    assert set(config) == set(sections.names())
    policy = schema()["definitions"]["config.PolicyConfig"]["properties"]
    assert set(policy) == set(sections.schema("policy").model_fields)
    assert policy["max_running"] == {
        "description": "Most completions that run at the same time; each has a slot in the KV cache.",
        "maximum": 4096,
        "minimum": 1,
        "type": "integer",
    }


@pytest.mark.parametrize("values", sorted(VALUES))
def test_the_value_sets_are_valid(values: str) -> None:
    jsonschema.Draft7Validator(schema()).validate(yaml.safe_load(VALUES[values].read_text()))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"polcy": {}}, "polcy"),
        ({"policy": {"replica": 2}}, "replica"),
        ({"policy": {"image": {"tag": 1.0}}}, "tag"),
        ({"policy": {"image": {"digest": "sha256:1"}}}, "digest"),
        ({"config": {"policy": {"max_runing": 8}}}, "max_runing"),
        ({"config": {"polcy": {}}}, "polcy"),
        ({"config": {"policy": {"max_running": 0}}}, "max_running"),
        ({"config": {"ppo": {"kl": {"placement": "rewards"}}}}, "placement"),
        ({"config": {"policy": {"threads": "nothing"}}}, "threads"),
        ({"config": {"reward": {"parts": [{"backend": "rules"}]}}}, "name"),
        ({"trainer": {"kind": "Job"}}, "kind"),
        ({"tls": {"mode": "self-signed"}}, "mode"),
        ({"defaults": {"runAs": {"user": "me"}}}, "user"),
        ({"policy": {"postgresql": {}}}, "postgresql"),
        ({"observability": {"podMonitor": {"label": {}}}}, "label"),
        ({"observability": {"prometheusRule": {"interval": "15s"}}}, "interval"),
        ({"observability": {"dashboards": {"runbook": "docs"}}}, "runbook"),
        ({"policy": {"tmp": {"sizeLimit": "512KI"}}}, "sizeLimit"),
        ({"policy": {"tmp": {"sizeLimit": "1ki"}}}, "sizeLimit"),
    ],
)
def test_helm_refuses_what_is_wrong_and_names_it(render: Renderer, values: dict[str, Any], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        render(values)


@pytest.mark.parametrize(
    "quantity", ["512Ki", "1.5Gi", "500m", "2E", "1e9", "1073741824", ".5Gi", 1073741824]
)
def test_every_quantity_of_kubernetes_is_taken(render: Renderer, quantity: str | int) -> None:
    assert render({"policy": {"tmp": {"sizeLimit": quantity}}}).objects


def test_none_turns_an_optional_setting_off(render: Renderer) -> None:
    config = render({"config": {"policy": {"threads": "none"}, "ppo": {"gates": {"kl_budget_nats": "none"}}}})
    assert config.config()["policy"]["threads"] == "none"
    assert config.config()["ppo"]["gates"]["kl_budget_nats"] == "none"
