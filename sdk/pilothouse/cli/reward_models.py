"""``reward``: stages, compares and promotes the reward service's models."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.options import ConfigFile, Json, Overrides, Target, Timeout
from pilothouse.cli.output import console, table, write_json
from pilothouse.cli.targets import find
from pilothouse.client import EnsembleCombination, LoadedRewardModel, RewardModelsClient

app = typer.Typer(no_args_is_help=True, add_completion=False)

_PREFIX = 6  # least characters of a version that stand for it

Version = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="The candidate's version, or its first 6 characters or more."),
]
Serving = Annotated[
    str,
    typer.Option("--serving", metavar="VERSION", help="Version that must be serving; else nothing is done."),
]


@app.callback()
def reward() -> None:
    """Stages, compares and promotes the reward service's models."""


@app.command("models")
def models(
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Shows the reward models in memory: serving, previous and candidate."""
    with _connect(target, timeout, config, overrides) as client:
        found = client.models()
    if json:
        write_json(found)
        return
    rows = table("", "version", "backend", "folders", "combination")
    for role, model in (
        ("serving", found.serving),
        ("previous", found.previous),
        ("candidate", found.candidate),
    ):
        if model is not None:
            folders = Text(" ".join(model.folders) or "configured")
            rows.add_row(role, model.reward_version, model.backend, folders, model.combination or "")
    console().print(rows)


@app.command("stage")
def stage(
    folders: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Inside reward.models_folder; several: an ensemble."),
    ],
    combination: Annotated[
        EnsembleCombination, typer.Option("--combine", help="How an ensemble's scores become one.")
    ] = "mean",
    std_factor: Annotated[
        float, typer.Option("--std-factor", min=0, help="Standard deviations that mean_minus_std subtracts.")
    ] = 1.0,
    target: Target = None,
    timeout: Timeout = 600.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Loads a candidate beside the reward model that serves."""
    with _connect(target, timeout, config, overrides) as client:
        _show(client.stage(*folders, combination=combination, std_factor=std_factor), "staged", json)


@app.command("candidate")
def candidate(
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Shows the candidate and how its scores of live rows compare."""
    with _connect(target, timeout, config, overrides) as client:
        found = client.candidate()
    if json:
        write_json(found)
        return
    shadow = found.shadow
    rows = table("", "")
    rows.add_row("candidate", found.model.reward_version)
    rows.add_row("serving", found.serving_version)
    rows.add_row("rows", f"{shadow.rows} (dropped {shadow.dropped_rows}, failed {shadow.failed_rows})")
    rows.add_row("difference", f"{shadow.mean_difference:+.4f} ± {shadow.std_difference:.4f}")
    rows.add_row("largest", f"{shadow.max_absolute_difference:.4f}")
    rows.add_row("same order", f"{shadow.agreement:.1%} of {shadow.pairs} pairs")
    console().print(rows)


@app.command("promote")
def promote(
    version: Version,
    serving: Serving,
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Lets the candidate serve; no request is dropped."""
    with _connect(target, timeout, config, overrides) as client:
        known = client.models()
        candidate = _whole(version, known.candidate)
        before = _whole(serving, known.serving)
        _show(client.promote(candidate, expected_serving_version=before), "serving", json)


@app.command("rollback")
def rollback(
    serving: Serving = "",
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Goes back to the reward model before the last promotion."""
    with _connect(target, timeout, config, overrides) as client:
        _show(client.rollback(expected_serving_version=serving), "serving", json)


@app.command("drop")
def drop(
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="That the candidate must have.")] = "",
    target: Target = None,
    timeout: Timeout = 60.0,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> None:
    """Forgets the candidate."""
    with _connect(target, timeout, config, overrides) as client:
        client.drop(version)


def _connect(
    target: str | None, timeout: float, config: Path | None, overrides: list[str] | None
) -> RewardModelsClient:
    address = find("reward", target, config, overrides or [], server="reward-models")
    return RewardModelsClient(address, timeout_seconds=timeout)


def _whole(version: str, known: LoadedRewardModel | None) -> str:
    """Returns the version that is known where what was given is its beginning, else what was given."""
    if known is not None and len(version) >= _PREFIX and known.reward_version.startswith(version):
        return known.reward_version
    return version


def _show(model: LoadedRewardModel, state: str, json: bool) -> None:
    if json:
        write_json(model)
    else:
        console().print(Text(f"{state}: {model.reward_version}"))
