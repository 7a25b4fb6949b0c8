"""A whole stack with certificates in its configuration file, used as one without them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.certificates import EXPIRED, Authority, section, settings
from tests.cli.conftest import Run

from pilothouse.cli.doctor.tls import explain
from pilothouse.cli.exits import Exit
from pilothouse.cli.main import main
from pilothouse.local.state import read_state

pytestmark = pytest.mark.usefixtures("no_identity")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Path]:
    """The configuration file of a running stack of all services."""
    folder = tmp_path_factory.mktemp("secured")
    file = folder / "pilothouse.toml"
    file.write_text(
        section(authority.issue("stack"))
        + f"""
        [local]
        state_dir = {json.dumps(str(folder / "state"))}
        services = ["policy", "reward", "reference", "feedback"]
        health_interval_seconds = 0.2
        [policy]
        threads = 1
        max_sequence_tokens = 128
        [reward]
        backend = "rules"
        tokenizer = "tiny"
        models_folder = {json.dumps(str(folder))}
        [reference]
        threads = 1
        [feedback]
        database = {json.dumps(f"sqlite:///{folder}/feedback.db")}
        """
    )
    assert main(["up", "--config", str(file)]) == 0
    yield file
    assert main(["down", "--config", str(file)]) == 0


def without(file: Path, tmp_path: Path) -> Path:
    """Returns the same configuration as of a process that has no certificate."""
    found = tmp_path / "plain.toml"
    found.write_text("[local]" + file.read_text().partition("[local]")[2])
    return found


def targets(file: Path) -> dict[str, str]:
    state = read_state(file.parent / "state")
    assert state is not None
    return {name: target for service in state.services for name, target in service.targets.items()}


def test_every_service_is_called_and_found_healthy(run: Run, secured: Path) -> None:
    ran = run("status", "--config", secured, "--json")
    assert ran.status == 0, ran.json
    assert len(ran.json["services"]) == 4
    assert all(service["model"] and not service["error"] for service in ran.json["services"])
    found = run("doctor", "--config", secured, "--json").json["findings"]
    told = {finding["check"]: finding for finding in found}
    assert told["tls"]["level"] == "ok"
    assert "days left" in told["tls"]["detail"]
    assert "127.0.0.1, localhost" in told["tls"]["detail"]
    assert all(told[f"service {name}"]["level"] == "ok" for name in ("policy", "reward", "feedback"))


def test_commands_have_the_identity_of_the_file(run: Run, secured: Path, tmp_path: Path) -> None:
    for words in (
        ["generate", "the film", "--max-new-tokens", 2],
        ["score", "the film", "was good"],
        ["reward", "models"],
        ["feedback", "queue", "films"],
    ):
        ran = run(*words, "--config", secured)
        assert ran.status == 0, ran.err


def test_a_policy_given_by_its_address_is_called_with_it_too(run: Run, secured: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "the film was"}\n')
    assert run("feedback", "queue", "given", "--config", secured).status == 0
    words = ["feedback", "sample", "given", prompts, "-n", 2, "--max-new-tokens", 4, "--json"]
    ran = run(*words, "--policy", targets(secured)["policy"], "--config", secured)
    assert ran.status == 0, ran.err
    assert ran.json["prompts"] == 1


def test_the_trainer_evaluates_and_learns_over_it(run: Run, secured: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"the film {word}"}) + "\n" for word in "abcd"))
    places = {name: targets(secured)[name] for name in ("policy", "weights", "reward", "reference")}
    flags = [
        f"{owner}.services.{name}='{place}'"
        for owner in ("evaluation", "ppo")
        for name, place in places.items()
    ]
    flags += [
        f"evaluation.prompts=['{prompts}']",
        "evaluation.max_new_tokens=4",
        f"ppo.rollout.prompts=['{prompts}']",
        "ppo.rollout.prompts_per_step=4",
        "ppo.rollout.max_new_tokens=4",
        "ppo.total_steps=1",
        "ppo.minibatches=1",
        "ppo.server.host=0.0.0.0",  # with a certificate it may
        f"ppo.run.folder='{tmp_path}'",
    ]
    words = [part for flag in flags for part in ("--set", flag)]
    ran = run("train", "ppo", "--config", secured, *words, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["step"] == 1
    ran = run("eval", "--config", secured, *words, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["policy_version"][1] >= 1


def test_who_has_no_certificate_is_told_what_is_missing(run: Run, secured: Path, tmp_path: Path) -> None:
    plain = without(secured, tmp_path)
    status = run("status", "--config", plain, "--json")
    assert status.status == Exit.FAILED
    assert all("section [tls]" in service["error"] for service in status.json["services"])
    found = run("doctor", "--config", plain, "--json").json["findings"]
    told = {finding["check"]: finding for finding in found}
    assert told["service policy"]["detail"] == "it speaks TLS, this process does not"


def test_the_doctor_finds_out_who_refuses_whom(secured: Path, tmp_path: Path, authority: Authority) -> None:
    policy = targets(secured)["policy"]
    good = authority.issue("caller")
    assert explain(policy, good) == ("", "")
    strangers = Authority(tmp_path / "strangers")
    assert explain(policy, strangers.issue("untrusting"))[0].startswith("its certificate is refused here")
    trusting = strangers.issue("trusting", trusts=authority)
    assert explain(policy, trusting)[0] == f"it refuses the certificate {trusting.cert_file}"
    assert explain(policy, good.model_copy(update={"server_name": "elsewhere"}))[0].endswith("'elsewhere'.")


@pytest.mark.parametrize(
    ("validity", "level", "detail"),
    [
        (EXPIRED, "error", "has expired on"),
        ({"not_after": datetime.now(UTC) + timedelta(days=5)}, "warning", "5 days left"),
    ],
    ids=["expired", "soon"],
)
def test_the_doctor_tells_a_certificate_that_ends(
    run: Run, authority: Authority, tmp_path: Path, validity: dict[str, object], level: str, detail: str
) -> None:
    file = tmp_path / "pilothouse.toml"
    file.write_text(section(authority.issue(f"ending-{level}", **validity)))
    words = ["--config", file, "--set", f"local.state_dir='{tmp_path}'", "--json"]
    findings = run("doctor", *words).json["findings"]
    (found,) = [finding for finding in findings if finding["check"] == "tls"]
    assert found["level"] == level
    assert detail in found["detail"]
    assert "renewed certificate" in found["mend"]


def test_an_incomplete_section_is_an_error_in_the_configuration(run: Run, tmp_path: Path) -> None:
    ran = run("config", "check", "--set", "tls.cert_file=a.crt")
    assert ran.status == Exit.USAGE
    assert "tls.key_file" in ran.err


def test_services_that_this_machine_could_not_call_are_not_started(
    run: Run, authority: Authority, tmp_path: Path
) -> None:
    tls = authority.issue("cluster", "f-policy.ns.svc")
    words = [part for setting in settings(tls) for part in ("--set", setting)]
    ran = run("up", *words, "--set", f"local.state_dir='{tmp_path}'")
    assert ran.status == Exit.USAGE
    assert "names f-policy.ns.svc, not 127.0.0.1; make one that has 127.0.0.1" in ran.err


def test_a_door_to_other_machines_is_open_to_those_with_a_certificate(run: Run, authority: Authority) -> None:
    words = ["config", "check", "--set", "policy.server.host=0.0.0.0"]
    assert "allow_insecure" in run(*words).err
    tls = [part for setting in settings(authority.issue("door")) for part in ("--set", setting)]
    assert run(*words, *tls).status == 0
