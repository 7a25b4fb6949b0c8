import json
from pathlib import Path

import pytest
import typer
from tests.models.codecs import swapped_codec
from typer.testing import CliRunner

from pilothouse.errors import ConfigError
from pilothouse.local import LocalStack
from pilothouse.trainer.commands import evaluate
from pilothouse.trainer.evaluate import Evaluation


@pytest.mark.heavy
@pytest.mark.timeout(200)
def test_a_served_policy_is_judged_by_one_command(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f" the film {word}"}) + "\n" for word in ("is", "was", "and"))
    )
    settings = ["policy.max_sequence_tokens=64", "reward.backend=rules", "reward.tokenizer=tiny"]
    app = typer.Typer()
    app.command()(evaluate)
    with LocalStack(overrides=settings, folder=tmp_path / "services") as stack:
        flags = [f"evaluation.services.{name}={target}" for name, target in stack.targets.items()]
        flags += [
            f"evaluation.prompts=['{prompts}']",
            "evaluation.max_new_tokens=8",
            "evaluation.temperature=0.5",
        ]
        arguments = ["--json", "--out", str(tmp_path / "judged.json")]
        arguments += [part for flag in flags for part in ("--set", flag)]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        swapped_codec().save(tmp_path / "swapped")
        other = [*arguments, "--set", f"evaluation.model={tmp_path / 'swapped'}"]
        with pytest.raises(ConfigError, match="the policy service has another tokenizer"):
            CliRunner().invoke(app, other, catch_exceptions=False)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["reward"]["count"] == 3
    assert told["policy_version"] == [0, 0]
    # The reference is the same model; only the temperatures of sampling and comparison differ.
    assert told["kl_per_sequence"]["mean"] == pytest.approx(0.0, abs=1e-3)
    judged = Evaluation.read(tmp_path / "judged.json")
    assert [row.prompt for row in judged.rows] == [" the film is", " the film was", " the film and"]
    assert all(1 <= row.tokens <= 8 for row in judged.rows)
