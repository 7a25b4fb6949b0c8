import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.cli.conftest import Run

from pilothouse import sections
from pilothouse.cli.doctor import machine, models, ports, providers, services
from pilothouse.cli.doctor.command import _extras
from pilothouse.cli.doctor.findings import Finding
from pilothouse.cli.exits import Exit
from pilothouse.local.events import ServiceStatus
from pilothouse.local.state import StackState, write_state
from pilothouse.sections import load_section

OWN_START = psutil.Process().create_time()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, so that state and runs of others are not seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def findings(run: Run, *words: object) -> tuple[int, dict[str, dict[str, str]]]:
    ran = run("doctor", "--json", *words)
    return ran.status, {finding["check"]: finding for finding in ran.json["findings"]}


def assert_found(finding: Finding, detail: str, mend: str) -> None:
    assert finding.level != "ok"
    assert detail in finding.detail
    assert mend in finding.mend


def test_a_healthy_machine_has_no_complaint(run: Run, here: Path) -> None:
    status, found = findings(run)
    assert status == 0, found
    assert {"python", "versions", "memory", "configuration", "execution providers", "stack"} <= set(found)
    assert all(not finding["mend"] for finding in found.values() if finding["level"] == "ok")


def test_the_table_shows_the_mend_below_the_fault(run: Run, here: Path) -> None:
    ran = run("doctor", "--set", "policy.modle=x")
    assert ran.status == Exit.FAILED
    assert "did you mean 'model'?" in ran.out
    assert "mend: correct it" in ran.out


def test_fault_a_misspelt_key(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "reward.bakend=rules")
    assert status == Exit.FAILED
    assert "did you mean 'backend'?" in found["configuration"]["detail"]


def test_fault_a_misspelt_section(run: Run, here: Path) -> None:
    (here / "a.toml").write_text("[referense]\n")
    status, found = findings(run, "--config", "a.toml")
    assert status == Exit.FAILED
    assert "did you mean 'reference'?" in found["configuration"]["detail"]


def test_fault_a_value_out_of_range(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "policy.max_running=0")
    assert status == Exit.FAILED
    assert "policy.max_running" in found["configuration"]["detail"]


def test_fault_a_server_open_to_the_network(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "policy.server.host=0.0.0.0")
    assert status == Exit.FAILED
    assert "listen on 127.0.0.1" in found["configuration"]["detail"]


def test_fault_a_busy_port_and_who_holds_it(run: Run, here: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        status, found = findings(run, "--set", f"policy.server.port={port}")
    assert status == Exit.FAILED
    finding = found["port policy.server.port"]
    assert f"(pid {os.getpid()})" in finding["detail"]
    assert "or to 0 for any free one" in finding["mend"]


def test_fault_two_servers_on_one_port() -> None:
    section = load_section(
        "policy", overrides=["policy.server.port=23456", "policy.weights_server.port=23456"], environment={}
    )
    (_, second) = ports.check_ports({"policy": section}, set())
    assert_found(second, "also asked for by policy.server.port", "a port of its own")


def test_a_port_of_the_running_stack_is_no_fault() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        section = load_section("policy", overrides=[f"policy.server.port={port}"], environment={})
        (finding,) = ports.check_ports({"policy": section}, {port})
    assert finding.level == "ok"


def test_fault_a_missing_model_of_a_service(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "policy.model=nowhere")
    assert status == Exit.FAILED
    assert "does not exist" in found["model policy.model"]["detail"]


def test_a_model_that_is_yet_to_be_trained_is_a_warning(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "ppo.value_model=runs/reward-model/model")
    assert status == 0
    assert found["model ppo.value_model"]["level"] == "warning"


def test_fault_a_model_that_is_only_pickled(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert_found(models.check_folder("policy.model", str(tmp_path)), "pickled", "save_pretrained")


def test_fault_a_model_with_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").touch()
    (tmp_path / "config.json").write_text('{"auto_map": {}}')
    assert_found(models.check_folder("policy.model", str(tmp_path)), "auto_map", "part of transformers")


def test_fault_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text("{}")
    assert_found(models.check_folder("policy.model", str(tmp_path)), "tokenizer.json", "whole folder")


def test_fault_a_model_with_a_broken_config(tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text("{")
    assert_found(models.check_folder("policy.model", str(tmp_path)), "not JSON", "again")


def test_fault_a_file_in_the_place_of_a_model_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    assert_found(models.check_folder("policy.model", str(file)), "is a file", "model folder")


def test_a_real_model_folder_is_well(tiny_folder: Path) -> None:
    finding = models.check_folder("policy.model", str(tiny_folder))
    assert finding.level == "ok"
    assert "llama" in finding.detail


def test_a_model_on_another_server_is_not_looked_for(run: Run, here: Path) -> None:
    _, found = findings(run, "--set", "reward.triton.model=theirs")
    assert "model reward.triton.model" not in found


def test_fault_a_full_disk(tmp_path: Path) -> None:
    (finding,) = machine.check_disk([tmp_path / "runs" / "new"], least_free_bytes=2**60)
    assert_found(finding, "GiB free", "free ")


def test_fault_little_memory() -> None:
    finding = machine.check_memory(least_free_bytes=2**60)
    assert_found(finding, "GiB available", "max_running")
    assert finding.level == "warning"


def test_fault_an_extra_that_the_configuration_needs_is_not_there(
    install: Callable[[str, str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install("none", "needy", "x:y")
    (folder / "theirs_needy-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: theirs-needy\nVersion: 1.0\n"
        "Provides-Extra: policy\nProvides-Extra: other\n"
        'Requires-Dist: pilothouse-engine-room>=1; extra == "policy"\n'
        'Requires-Dist: pilothouse-engine-room>=1; extra == "other"\n'
    )
    monkeypatch.setattr(machine, "DISTRIBUTION", "theirs-needy")
    found = {finding.check: finding for finding in machine.check_extras({"policy"})}
    assert_found(found["extra policy"], "pilothouse-engine-room", "pip install 'theirs-needy[policy]'")
    assert found["extra other"].level == "ok"


@pytest.fixture
def gpu_build_only(
    install: Callable[[str, str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Finding]:
    """A machine whose only ONNX Runtime is onnxruntime-gpu; gives the finding about the extra ``reward``."""
    information = install("none", "gpu", "x:y") / "theirs_gpu-1.0.dist-info"
    versions = {"onnxruntime": "", "onnxruntime-gpu": "1.22"}
    real = machine.version_of
    monkeypatch.setattr(machine, "version_of", lambda name: versions.get(name, real(name)))
    monkeypatch.setattr(machine, "DISTRIBUTION", "theirs-gpu")

    def finding(further: str) -> Finding:
        (information / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: theirs-gpu\nVersion: 1.0\n"
            f'Requires-Dist: onnxruntime; extra == "reward"\nRequires-Dist: {further}; extra == "reward"\n'
            'Requires-Dist: onnxruntime-gpu; extra == "reward-gpu"\n'
        )
        return next(found for found in machine.check_extras({"reward"}) if found.check == "extra reward")

    return finding


def test_the_gpu_build_of_onnxruntime_is_onnxruntime(gpu_build_only: Callable[[str], Finding]) -> None:
    assert gpu_build_only("numpy").level == "ok"


def test_fault_beside_the_gpu_build_the_mend_does_not_bring_the_other(
    gpu_build_only: Callable[[str], Finding],
) -> None:
    assert_found(
        gpu_build_only("pilothouse-engine-room"), "pilothouse-engine-room", "'theirs-gpu[reward-gpu]'"
    )


def test_a_torch_reward_needs_the_extra_with_torch(run: Run, here: Path, tiny_folder: Path) -> None:
    settings = ["--set", "reward.backend=torch", "--set", f"reward.model={tiny_folder}"]
    values, _ = sections.effective(file=None, overrides=settings[1::2])
    assert _extras({"policy", "reward"}, values) == {"policy", "reward-torch"}


def test_extras_that_include_others_need_what_those_need() -> None:
    requirements = ['torch>=2; extra == "models"', "pilothouse[models]; extra == 'policy'"]
    assert machine.needed_by("policy", requirements) == ["torch"]


def test_fault_two_builds_of_onnxruntime(install: Callable[[str, str, str], Path]) -> None:
    folder = install("none", "gpu", "x:y")
    information = folder / "onnxruntime_gpu-1.0.dist-info"
    (folder / "theirs_gpu-1.0.dist-info").rename(information)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.0\n")
    assert_found(machine.check_runtimes(), "own the same folder", "pip uninstall")


def test_fault_a_required_provider_that_does_not_work(run: Run, here: Path) -> None:
    status, found = findings(run, "--set", "reward.require=['tensorrt']")
    assert status == Exit.FAILED
    assert "tensorrt required, working: cpu" in found["execution providers"]["detail"]
    assert "reward-gpu" in found["execution providers"]["mend"]


def test_a_working_provider_is_tried_in_a_session() -> None:
    assert "cpu" in list(providers.working_providers())
    assert providers.check_providers(["cpu"]).level == "ok"


def test_fault_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    write_state(tmp_path, StackState(os.getpid(), OWN_START - 1000))
    (finding,) = services.check_services(tmp_path)
    assert_found(finding, "was killed", "pilothouse up")


def test_fault_a_start_that_failed(tmp_path: Path) -> None:
    write_state(tmp_path, StackState(os.getpid(), OWN_START - 1000, failure="no model"))
    (finding,) = services.check_services(tmp_path)
    assert_found(finding, "no model", "pilothouse up")


def test_fault_a_service_that_keeps_dying_or_does_not_answer(tmp_path: Path) -> None:
    waiting = ServiceStatus("policy", "waiting", None, 3, log="policy.log", detail="policy lost (signal 9)")
    silent = ServiceStatus("reward", "serving", 1, 0, {"reward": "127.0.0.1:1"}, log="reward.log")
    write_state(tmp_path, StackState(os.getpid(), OWN_START, services=[waiting, silent]))
    _, lost, mute = services.check_services(tmp_path)
    assert_found(lost, "policy lost (signal 9)", "policy.log")
    assert_found(mute, "127.0.0.1:1", "reward.log")


def test_every_finding_can_be_written_as_json(run: Run, here: Path) -> None:
    ran = run("doctor", "--json", "--set", "policy.model=nowhere")
    assert ran.json["healthy"] is False
    assert json.dumps(ran.json)
