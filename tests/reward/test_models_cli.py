"""``pilothouse reward``, against a real service."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pilothouse.cli.exits import Exit
from pilothouse.cli.main import main
from pilothouse.config import parse
from pilothouse.reward.build import build
from pilothouse.reward.config import RewardConfig


async def test_a_model_is_staged_promoted_and_taken_back_by_commands(
    models_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"backend": "rules", "models_folder": str(models_folder), "server": {"http_port": -1}}
    config = parse(RewardConfig, settings, section="reward")
    # Its log goes to the same output, where its process is that of the commands.
    with capture_logs():
        async with build(config) as servers:
            for server in servers:
                await server.start()

            async def run(*words: str) -> tuple[int, str]:
                capfd.readouterr()
                command = ["reward", *words, "--target", f"127.0.0.1:{servers[1].port}"]
                return await asyncio.to_thread(main, command), capfd.readouterr().out

            async def document(*words: str) -> Any:
                status, out = await run(*words, "--json")
                assert status == 0
                return json.loads(out)

            rules = (await document("models"))["serving"]["reward_version"]
            staged = await document("stage", "a", "b", "--combine", "mean_minus_std", "--std-factor", "0.5")
            assert (staged["combination"], staged["std_factor"]) == ("mean_minus_std", 0.5)
            version = staged["reward_version"]
            assert (await document("candidate"))["serving_version"] == rules
            status, out = await run("candidate")
            assert status == 0
            assert version in out
            assert (await run("promote", version, "--serving", "other"))[0] == Exit.FAILED
            assert (await run("promote", version[:5], "--serving", rules))[0] == Exit.FAILED
            assert (await run("promote", version[:8], "--serving", rules[:12])) == (
                0,
                f"serving: {version}\n",
            )
            status, out = await run("models")
            assert status == 0
            assert "a b" in out
            assert (await run("rollback")) == (0, f"serving: {rules}\n")
            assert (await run("stage", "../c"))[0] == Exit.USAGE
            assert (await run("stage", "c"))[0] == 0
            assert (await run("drop")) == (0, "")
            assert (await run("candidate"))[0] == Exit.FAILED
            for server in servers:
                await server.abort()
