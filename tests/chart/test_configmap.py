"""templates/configmap.yaml, and the configuration that it holds."""

import json
import tomllib
from pathlib import Path

import pytest

from pilothouse import sections

from .rendering import ROOT, VALUES, RefusedError, Renderer


def processes_read(rendered_toml: str, folder: Path) -> dict[str, object]:
    """Returns the configuration as the processes read it; raises what they would."""
    file = folder / "pilothouse.toml"
    file.write_text(rendered_toml)
    values, absent = sections.effective(file=file, environment={})
    assert set(absent) <= {"tls"}
    return dict(values)


@pytest.mark.parametrize("values", sorted(VALUES))
def test_the_processes_accept_the_file(render: Renderer, values: str, tmp_path: Path) -> None:
    rendered = render(values)
    processes_read(rendered.all("ConfigMap")[0]["data"]["pilothouse.toml"], tmp_path)


def test_what_a_laptop_says_is_read_the_same_here(render: Renderer) -> None:
    file = ROOT / "deploy/config/laptop.toml"
    laptop = tomllib.loads(file.read_text())
    del laptop["local"], laptop["ppo"]["services"]
    config = render({"config": laptop}).config()
    for section, given in laptop.items():
        assert contains(config[section], given), section


def contains(whole: object, part: object) -> bool:
    """Returns whether all of a part's keys and values are in the whole."""
    if isinstance(part, dict):
        assert isinstance(whole, dict)
        return all(contains(whole.get(key), value) for key, value in part.items())
    return whole == part


def test_every_kind_of_value_arrives(render: Renderer) -> None:
    found = render("words-that-look-like-others", release="odd").objects
    (file,) = [one for one in found if one["kind"] == "ConfigMap" and "pilothouse.toml" in one["data"]]
    config = tomllib.loads(file["data"]["pilothouse.toml"])
    assert config["loop"]["queue"] == "1e3"
    assert config["loop"]["instructions"] == "say \"y\" \\ <&> 'ü' 😀\nor n"
    assert config["ppo"]["run"]["name"] == "0123"
    options = config["reward"]["python"]["options"]
    assert options == {
        "threshold": 0.5,
        "count": 3,
        "flag": True,
        "odd key.": "1e3",
        "nested": {"deep": [1, [2.5, "x"]]},
    }
    assert isinstance(options["count"], int)  # Helm reads every number as a float


def test_integers_stay_integers_and_null_is_left_out(render: Renderer) -> None:
    config = render("whole-config", {"config": {"reference": {"threads": None}}}).config()
    assert config["policy"]["max_request_tokens"] == 1_000_000
    assert isinstance(config["policy"]["max_request_tokens"], int)
    assert config["ppo"]["policy"]["learning_rate"] == 1e-6
    assert config["policy"]["threads"] == "none"
    assert "threads" not in config["reference"]
    assert [part["name"] for part in config["reward"]["parts"]] == ["seed-0", "seed-1"]


def test_what_the_values_say_wins_over_what_the_chart_knows(render: Renderer) -> None:
    config = render(
        {"config": {"ppo": {"services": {"wait_seconds": 5}, "lease": {"name": "mine"}}}}
    ).config()
    assert config["ppo"]["services"]["wait_seconds"] == 5
    assert config["ppo"]["lease"]["name"] == "mine"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7001", "localhost:7001", "[::1]:7001", "unix:/tmp/p", "dns:///localhost:1"]
)
def test_addresses_that_only_the_laptop_knew_are_refused(render: Renderer, address: str) -> None:
    with pytest.raises(RefusedError, match=r"config.ppo.services.reward is .*, which no other pod can reach"):
        render({"config": {"ppo": {"services": {"reward": address}}}})
    with pytest.raises(
        RefusedError, match=r"config.policy.server.host is 127.0.0.1, which no other pod can reach"
    ):
        render({"config": {"policy": {"server": {"host": "127.0.0.1"}}}})


def test_every_server_listens_for_other_pods(render: Renderer) -> None:
    for values in ("default", "no-tls"):
        config = render(values).config()
        insecure = values == "no-tls"
        servers = [
            config[section][key]
            for section in config
            for key in ("server", "weights_server", "models_server")
            if key in config[section]
        ]
        assert len(servers) == 9
        assert {server["host"] for server in servers} == {"0.0.0.0"}
        assert {server.get("allow_insecure", False) for server in servers} == {insecure}
        assert ("tls" in config) is not insecure


def test_the_prompts_of_the_chart_are_used_where_none_are_given(render: Renderer) -> None:
    data = render().one("ConfigMap", "data")["data"]
    prompts = [json.loads(line)["prompt"] for line in data["prompts.jsonl"].splitlines()]
    held_out = [json.loads(line)["prompt"] for line in data["held-out.jsonl"].splitlines()]
    assert len(set(prompts)) == len(prompts) >= 64
    assert len(set(held_out)) == len(held_out) >= 16
    assert set(prompts).isdisjoint(held_out)
    assert render().config()["ppo"]["rollout"]["prompts"] == ["data/prompts.jsonl"]
    assert render("whole-config").config()["ppo"]["rollout"]["prompts"] == ["data/a.jsonl", "data/b.parquet"]


def test_data_come_from_the_values_a_config_map_or_a_volume(render: Renderer) -> None:
    assert set(render("loop").one("ConfigMap", "data")["data"]) == {"prompts.jsonl", "held-out.jsonl"}
    rendered = render({"trainer": {"data": {"existingConfigMap": "mine"}}})
    assert "data" not in rendered.names("ConfigMap")
    volumes = {volume["name"]: volume for volume in rendered.pod("trainer")["volumes"]}
    assert volumes["data"] == {"name": "data", "configMap": {"name": "mine"}}
