import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pilothouse.trainer.commands import evaluate


@pytest.mark.parametrize(("flags", "temperature"), [([], 0.01), (["evaluation.temperature=0.5"], 0.5)])
async def test_checklist_05_evaluation_asks_the_policy_to_sample_almost_greedily_unless_told_otherwise(
    targets: Mapping[str, str], requests: Any, tmp_path: Path, flags: list[str], temperature: float
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f" the film {word}"}) + "\n" for word in ("is", "was")))
    settings = [f"evaluation.services.{name}={target}" for name, target in targets.items()]
    settings += [f"evaluation.prompts=['{prompts}']", "evaluation.max_new_tokens=6", *flags]
    arguments = ["--json", *(part for setting in settings for part in ("--set", setting))]
    app = typer.Typer()
    app.command()(evaluate)
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (asked,) = requests.generate
    assert asked.sampling.temperature == pytest.approx(temperature)
    assert (asked.sampling.top_k, asked.sampling.top_p) == (0, 1)
    assert len(asked.tokens.lengths.data) == 2 * 4
