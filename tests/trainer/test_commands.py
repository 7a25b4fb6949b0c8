import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from pilothouse.cli.exits import Exit
from pilothouse.config import Config, load
from pilothouse.errors import ConfigError
from pilothouse.models.reward_files import read_manifest
from pilothouse.trainer.commands import train
from pilothouse.trainer.config import PpoRunConfig, RewardModelConfig, SftConfig
from pilothouse.trainer.display import one_line

runner = CliRunner()


def _write(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_sft_is_one_command_with_a_file_and_flags(tmp_path: Path) -> None:
    data = _write(tmp_path / "d.jsonl", [{"text": " the film was good"}] * 8)
    config = tmp_path / "run.toml"
    config.write_text(f'[sft]\ndata = ["{data}"]\nbatch_size = 4\n')
    result = runner.invoke(
        train,
        ["sft", "--config", str(config), "--set", f"sft.output={tmp_path / 'run'}", "--json"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["epoch"] == 1.0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_stopped_run_says_where_it_goes_on_and_ends_as_interrupted(tmp_path: Path) -> None:
    data = _write(tmp_path / "d.jsonl", [{"text": " the film was good"}] * 8)
    program = str(Path(sys.executable).with_name("pilothouse"))
    flags = (f"data=['{data}']", f"output='{tmp_path / 'run'}'", "batch_size=1", "epochs=10000")
    arguments = [part for flag in flags for part in ("--set", f"sft.{flag}")]
    metrics = tmp_path / "run" / "metrics.jsonl"
    command = [program, "train", "sft", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            while not (metrics.exists() and metrics.read_text()):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            told = json.loads(process.communicate(timeout=60)[0])
        finally:
            process.kill()
    assert process.returncode == Exit.INTERRUPTED
    assert told["state"] == "stopped"
    assert Path(told["checkpoint"]).name == f"step_{told['step']:08}"
    assert (Path(told["checkpoint"]) / "COMMITTED").is_file()


def test_a_log_event_does_not_disturb_the_result_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with one_line("PPO"):
        structlog.get_logger("trainer").info("listening", port=7005)
    told = capsys.readouterr()
    assert told.out == ""
    assert '"event": "listening"' in told.err


def test_a_reward_model_is_one_command(tmp_path: Path) -> None:
    data = _write(tmp_path / "r.jsonl", [{"chosen": " so good film", "rejected": " so bad film"}] * 8)
    flags = [
        f"reward_model.data=['{data}']",
        f"reward_model.output={tmp_path / 'run'}",
        "reward_model.max_sequence_tokens=64",
    ]
    arguments = ["reward-model", "--json", *(part for flag in flags for part in ("--set", flag))]
    result = runner.invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["reward_version"] == read_manifest(tmp_path / "run" / "model").version


def test_a_misspelt_key_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown key sft\.bach_size; did you mean 'batch_size'"):
        runner.invoke(train, ["sft", "--set", "sft.bach_size=3"], catch_exceptions=False)


def test_a_misspelt_section_is_an_error_too() -> None:
    with pytest.raises(ConfigError, match="unknown section 'stf'"):
        runner.invoke(train, ["sft", "--set", "stf.seed=3"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (PpoRunConfig, "ppo.policy"),
        (PpoRunConfig, "ppo.value"),
        (SftConfig, "sft.optimiser"),
        (RewardModelConfig, "reward_model.optimiser"),
    ],
)
def test_a_learning_rate_that_messages_name_is_a_setting(schema: type[Config], name: str) -> None:
    section = name.partition(".")[0]
    assert load(schema, section, overrides=[f"{name}.learning_rate=1e-7"]) != load(schema, section)
