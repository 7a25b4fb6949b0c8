"""The trainer's commands, found through entry points. Heavy imports wait until they run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.exits import Exit
from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.cli.output import console, notices, table, write_json
from pilothouse.config import ConfigT, load
from pilothouse.sections import check_names
from pilothouse.server.config import check_doors
from pilothouse.tls import adopt
from pilothouse.trainer.ranks.place import Place, demand_one_rank

train = typer.Typer(no_args_is_help=True, help="Train a policy by demonstrations, a reward model, or by PPO.")


@train.command()
def sft(config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False) -> None:
    """Fine-tune a model on demonstrations: section [sft]."""
    from pilothouse.trainer.display import one_line
    from pilothouse.trainer.fit_config import SftConfig
    from pilothouse.trainer.sft import train_sft

    demand_one_rank("`train sft`")
    settings = _settings(SftConfig, "sft", config, overrides)
    with _told_when_stopped(as_json), one_line("SFT", ("loss", "eval_loss")) as progress:
        metrics = train_sft(settings, progress)
    _tell({"state": "finished", "model": str(settings.output / "model"), **metrics}, as_json)


@train.command()
def reward_model(config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False) -> None:
    """Train a reward model, or an ensemble of some, on rankings: section [reward_model]."""
    from pilothouse.trainer.display import one_line
    from pilothouse.trainer.ensemble import train_ensemble
    from pilothouse.trainer.fit_config import RewardModelConfig
    from pilothouse.trainer.reward_model import train_reward_model
    from pilothouse.trainer.reward_told import ensemble_told, model_told

    demand_one_rank("`train reward-model`")
    settings = _settings(RewardModelConfig, "reward_model", config, overrides)
    names = ("loss", "accuracy", "eval_accuracy")
    with _told_when_stopped(as_json), one_line("Reward model", names) as progress:
        if settings.members == 1:
            told = model_told(settings, train_reward_model(settings, progress))
        else:
            told = ensemble_told(settings, train_ensemble(settings, progress))
    _tell(told, as_json)


@train.command()
def ppo(config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False) -> None:
    """Train a policy online against running services: section [ppo]. Resumes by itself."""
    from pilothouse.trainer.display import one_line
    from pilothouse.trainer.ppo_display import PpoLine
    from pilothouse.trainer.ppo_run import run_ppo
    from pilothouse.trainer.ranks.helper import help_ppo
    from pilothouse.trainer.run_config import PpoRunConfig

    settings = _settings(PpoRunConfig, "ppo", config, overrides)
    if Place.here().index:  # the run is rank 0's, and so is all that is told of it
        raise typer.Exit(Exit.OK if help_ppo(settings) else Exit.INTERRUPTED)
    with one_line("PPO") as line:
        result = run_ppo(settings, PpoLine(line))
    _tell({"state": result.state, "step": result.step, "checkpoint": str(result.checkpoint)}, as_json)
    if result.state == "stopped":  # a script must not go on as if the policy had learned
        raise typer.Exit(Exit.INTERRUPTED)


def evaluate(
    config: ConfigFile = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Also write every judged response here, as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Judge the policy that is being served on held-out prompts: section [evaluation]."""
    from pilothouse.trainer.evaluate import INDEPENDENT_MEASURE
    from pilothouse.trainer.evaluate import evaluate as run_evaluation
    from pilothouse.trainer.evaluation_config import EvaluationConfig
    from pilothouse.trainer.statistics import interval_to_json

    settings = _settings(EvaluationConfig, "evaluation", config, overrides)
    found = run_evaluation(settings)
    if out is not None:
        found.write(out)
    names = {"reward": "score", INDEPENDENT_MEASURE: "independent", "kl_per_sequence": "kl"}
    names |= {"response_tokens": "tokens", "eos_share": "finished"}
    told: dict[str, object] = {name: interval_to_json(found.interval(of)) for name, of in names.items()}
    _tell({"policy_version": found.version, "reward_version": found.reward_version, **told}, as_json)


def export(
    folder: Annotated[Path, typer.Argument(help="Reward model folder, as `train reward-model` writes it.")],
    out: Annotated[Path, typer.Argument(help="Folder for the ONNX model.")],
    tolerance: Annotated[float, typer.Option(help="Largest difference to torch's scores.")] = 1e-4,
    as_json: Json = False,
) -> None:
    """Export a reward model to ONNX; fails if its scores differ from torch's."""
    from dataclasses import asdict

    from pilothouse.models.export import export_reward_model

    _tell({"model": str(out), **asdict(export_reward_model(folder, out, tolerance=tolerance))}, as_json)


def demo(
    tiny: Annotated[
        bool, typer.Option("--tiny", help="A tiny model and made-up rankings: two minutes.")
    ] = False,
    loop: Annotated[
        bool, typer.Option("--loop", help="The closed loop: a simulated crowd ranks, twice round.")
    ] = False,
    browser: Annotated[
        bool, typer.Option(help="With --loop: one of the crowd ranks on the page, in Chromium.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; else runs/demo, demo-tiny or demo-loop.")
    ] = None,
) -> None:
    """Run the whole job: SFT, reward model, ONNX export, services, online PPO, report."""
    from pilothouse.trainer.demo.loop.run import run_loop_demo
    from pilothouse.trainer.demo.run import run_demo

    demand_one_rank("`demo`")
    folder = out or Path("runs") / ("demo-loop" if loop else "demo-tiny" if tiny else "demo")
    screen = console()
    try:
        if loop:
            passed = run_loop_demo(folder, seed=seed, browser=browser, console=screen)
        else:
            passed = run_demo(folder, tiny=tiny, seed=seed, console=screen)
    except KeyboardInterrupt:
        screen.print("Stopped. What was done is kept: the same command goes on from there.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    raise typer.Exit(Exit.OK if passed else Exit.FAILED)


def _settings(schema: type[ConfigT], section: str, file: Path | None, overrides: list[str] | None) -> ConfigT:
    """Reads the command's section, and the process's identity; names that nobody reads are errors too."""
    check_names(file, overrides or ())
    settings = load(schema, section, file=file, overrides=overrides or ())
    identity = adopt(file, overrides or ())
    check_doors(section, settings, secured=identity is not None)
    return settings


@contextmanager
def _told_when_stopped(as_json: bool) -> Iterator[None]:
    """Says where a supervised run goes on that was stopped, and ends the command as interrupted."""
    from pilothouse.trainer.fit_run import StoppedOnRequest

    try:
        yield
    except StoppedOnRequest as stop:
        _tell({"state": "stopped", "step": stop.step, "checkpoint": str(stop.checkpoint)}, as_json)
        raise typer.Exit(Exit.INTERRUPTED) from None


def _tell(result: Mapping[str, object], as_json: bool) -> None:
    """Writes a result for scripts or for people."""
    if as_json:
        write_json(result)
        return
    shown = table("", "")
    for name, value in result.items():
        shown.add_row(name, Text(_shown(value)))
    console().print(shown)
    for name, count in result.items():
        what = name.removesuffix("_left_out")
        if what != name and count:
            notices().print(Text(f"{count:.0f} {what} left out: longer than max_sequence_tokens"))


def _shown(value: object) -> str:
    """Returns a figure as people read it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping) and {"mean", "low", "high", "count"} == value.keys():
        mean, low, high = value["mean"], value["low"], value["high"]
        ends = "no interval" if low is None else f"{low:.4g} to {high:.4g}"
        return f"{mean:.4g} ({ends}; {value['count']} independent)"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return ", ".join(map(_shown, value)) if isinstance(value, list | tuple) else str(value)
