"""``loop``: the closed loop, as a command."""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.cli.output import console, write_json
from pilothouse.config import load
from pilothouse.server.config import check_doors
from pilothouse.tls import adopt
from pilothouse.trainer.ranks.place import demand_one_rank

Turns = Annotated[int | None, typer.Option("--turns", min=1, help="Turns in all; else loop.turns.")]


def loop(
    turns: Turns = None, config: ConfigFile = None, overrides: Overrides = None, json: Json = False
) -> None:
    """Lets people rank, learns from it, and goes on.

    Sections [loop], [reward_model] and [ppo] say how. The services, feedback included, must be up. Ended at
    any moment, the same command goes on there.
    """
    from pilothouse.trainer.display import Display
    from pilothouse.trainer.fit_config import RewardModelConfig
    from pilothouse.trainer.logs import log_to
    from pilothouse.trainer.online.config import LoopConfig
    from pilothouse.trainer.online.loop import Loop
    from pilothouse.trainer.run_config import PpoRunConfig

    demand_one_rank("`loop`")
    given = list(overrides or [])
    if turns is not None:
        given.append(f"loop.turns={turns}")
    settings = load(LoopConfig, "loop", file=config, overrides=given)
    reward_model = load(RewardModelConfig, "reward_model", file=config, overrides=given)
    ppo = load(PpoRunConfig, "ppo", file=config, overrides=given)
    check_doors("ppo", ppo, secured=adopt(config, given) is not None)
    folder: Path = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    display = Display(console())
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log, log_to(log), display.live():
        standing = Loop(settings, reward_model, ppo, display).run()
    if json:
        write_json(standing)
