import tomllib
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pilothouse.cli.exits import Exit

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "config").glob("*.toml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_example_configurations_are_valid(run: Run, file: Path) -> None:
    ran = run("config", "check", "--config", file, "--json")
    assert ran.status == 0
    named = tomllib.loads(file.read_text()).get("local", {}).get("services")
    assert set(named or ("policy", "reward", "reference")) <= set(ran.json["checked"])


def test_the_trainer_finds_the_services_of_the_laptop_configuration(run: Run) -> None:
    (file,) = [file for file in EXAMPLES if file.stem == "laptop"]
    shown = run("config", "show", "--config", file, "--json").json
    targets = shown["ppo"]["services"]
    for name, port in {
        "policy": shown["policy"]["server"]["port"],
        "weights": shown["policy"]["weights_server"]["port"],
        "reward": shown["reward"]["server"]["port"],
        "reference": shown["reference"]["server"]["port"],
    }.items():
        assert targets[name] == f"127.0.0.1:{port}"


def test_flags_win_over_environment_over_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[policy]\nmax_running = 2\nmax_waiting = 2\nmax_samples = 2\n")
    monkeypatch.setenv("PILOTHOUSE_POLICY__MAX_WAITING", "3")
    monkeypatch.setenv("PILOTHOUSE_POLICY__MAX_SAMPLES", "3")
    shown = run("config", "show", "--config", file, "--set", "policy.max_samples=4", "--json").json["policy"]
    assert (shown["max_running"], shown["max_waiting"], shown["max_samples"]) == (2, 3, 4)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[polcy]\nmodel = 'tiny'\n", "unknown section 'polcy'; did you mean 'policy'?"),
        ("[policy]\nmodle = 'tiny'\n", "unknown key policy.modle; did you mean 'model'?"),
        ("[policy.server]\nprot = 1\n", "unknown key policy.server.prot; did you mean 'port'?"),
        ("model = 'tiny'\n", "unknown section 'model'"),
        ("policy = 1\n", "write [policy] and its keys below"),
        ("[policy]\nmax_running = 0\n", "policy.max_running: Input should be greater than or equal to 1"),
        ("[policy\n", "is not valid TOML"),
        ("[local]\nservices = ['policy', 'policy']\n", "name at least one service, and each of them once"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_mend(
    run: Run, tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(content)
    ran = run("config", "check", "--config", file)
    assert ran.status == Exit.USAGE
    assert told in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("override", ["polcy.model=x", "policy.model", "model=x", "policy.modle=x"])
def test_a_mistake_in_an_override_is_a_usage_error(run: Run, override: str) -> None:
    assert run("config", "check", "--set", override).status == Exit.USAGE


def test_a_misspelt_environment_variable_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_POLCY__MODEL", "x")
    assert "did you mean 'policy'" in run("config", "check").err


def test_the_file_may_come_from_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[policy]\nmax_running = 7\n")
    monkeypatch.setenv("PILOTHOUSE_CONFIG", str(file))
    assert run("config", "show", "--json").json["policy"]["max_running"] == 7


def test_the_schema_describes_every_key(run: Run) -> None:
    schema = run("config", "schema").json
    definitions = {**schema["$defs"], "": {"properties": {}}}
    assert schema["additionalProperties"] is False
    assert {"local", "policy", "reward", "reference", "ppo"} <= set(schema["properties"])
    for name, model in definitions.items():
        for key, value in model.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key} has no description"
            assert "additionalProperties" in model, name


def test_passwords_in_addresses_are_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_FEEDBACK__DATABASE", "postgresql://u:S3C@RET@db:5432/feedback")
    for words in (["config", "show"], ["config", "show", "--json"]):
        ran = run(*words)
        assert ran.status == 0
        assert "RET" not in ran.out
        assert "postgresql://u:(hidden)@db:5432/feedback" in ran.out.replace("\n", "")
