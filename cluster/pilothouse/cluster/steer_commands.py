"""Commands that change what runs: ``pause``, ``resume``, ``stop``, ``scale``, ``rollback``."""

from typing import Annotated

import typer
from rich.text import Text

from pilothouse.cli.exits import Exit
from pilothouse.cli.options import ConfigFile, Json
from pilothouse.cli.output import console, table, write_json
from pilothouse.cluster import rolling_back, scaling, steering
from pilothouse.cluster.api import Api
from pilothouse.cluster.identity import calling_trainer, operator
from pilothouse.cluster.looking import lease_of
from pilothouse.cluster.options import JobName, Where, identified, located
from pilothouse.cluster.release import Release, pods_of
from pilothouse.cluster.trainers import pushing_pods
from pilothouse.errors import PilothouseError, PortClosedError, PreconditionError
from pilothouse.tls import Tls


@located
def pause(where: Where, config: ConfigFile = None, job: JobName = None) -> None:
    """Holds the trainer before its next step. Its pod, its memory and its GPUs stay taken."""
    api, release = where.find()
    training = steering.training_of(api, release, job)
    with operator(api, release) as tls:
        steering.pause(api, release, training, tls)
    _tell(f"{training.name} is held; `pilothouse cluster resume` goes on")


@located
def resume(where: Where, config: ConfigFile = None, job: JobName = None) -> None:
    """Lets the trainer go on: one that is held at once, one that was stopped from its checkpoint."""
    api, release = where.find()
    training = steering.training_of(api, release, job)
    if training.wanted or training.is_over:
        with operator(api, release) as tls:
            steering.unpause(api, release, training, tls)
        _tell(f"{training.name} goes on")
    else:
        steering.start(api, training)
        _tell(f"{training.name} is started again; it goes on from its checkpoint")


@located
def stop(where: Where, config: ConfigFile = None, job: JobName = None) -> None:
    """Ends the trainer after its step, with a checkpoint, and takes its pods away until `resume`."""
    api, release = where.find()
    training = steering.training_of(api, release, job)
    with identified(api, release) as tls:
        checkpoint = steering.stop(api, release, training, tls)
    saved = f", checkpoint {checkpoint}" if checkpoint else "; it writes a checkpoint before its pod ends"
    _tell(f"{training.name} is stopped{saved}; `pilothouse cluster resume` goes on from it")


@located
def scale(
    where: Where,
    component: Annotated[str, typer.Argument(metavar="COMPONENT", help="policy, reward, reference, ...")],
    count: Annotated[int, typer.Argument(metavar="N", min=0, help="Pods that it is to have.")],
) -> None:
    """Sets how many pods a component has, until the next `helm upgrade`."""
    api, release = where.find()
    name, before = scaling.scale(api, release, component, count)
    _tell(
        f"{name}: {before} -> {count}; to keep it over upgrades, also "
        f"`helm upgrade --set {component}.replicas={count}`"
    )


@located
def rollback(
    where: Where,
    config: ConfigFile = None,
    json: Json = False,
    while_training: Annotated[
        bool, typer.Option("--while-training", help="Also while a trainer runs, whose next push it may fail.")
    ] = False,
) -> None:
    """Goes back to the weights before the last push, on every policy pod.

    Nothing is changed unless all pods can be reached and serve the same weights. Exit status 1 if some could
    not go back all the same.
    """
    api, release = where.find()
    with operator(api, release) as tls:
        if not while_training:
            _check_held(api, release, tls)
        found = rolling_back.roll_back(api, release, tls)
    if json:
        after = {pod: _document(each) for pod, each in found.after.items()}
        write_json({"before": _document(found.before), "pods": after})
    else:
        rows = table("pod", "before", "now")
        for pod, each in found.after.items():
            now = Text(str(each), "red") if isinstance(each, PilothouseError) else Text(_version(each))
            rows.add_row(Text(pod), _version(found.before), now)
        console().print(rows)
    if not found.is_whole:
        raise typer.Exit(Exit.FAILED)


def _check_held(api: Api, release: Release, tls: Tls | None) -> None:
    """Refuses while a trainer takes steps: it would push onto weights that are not there any more."""
    for pod in pushing_pods(pods_of(api, release, "trainer"), lease_of(api, release)):
        try:
            with calling_trainer(api, release, pod, tls) as client:
                state = client.status().state
        except PortClosedError:
            continue  # a loop that waits
        if state in ("starting", "running"):
            raise PreconditionError(
                f"the trainer is {state} and would push again; `pilothouse cluster pause` or `stop` it "
                "first, or add --while-training"
            )


def _document(found: rolling_back.Version | PilothouseError) -> dict[str, object]:
    if isinstance(found, PilothouseError):
        return {"error": str(found)}
    return {"epoch": found[0], "version": found[1]}


def _version(version: rolling_back.Version) -> str:
    return f"{version[0]}.{version[1]}"


def _tell(text: str) -> None:
    console().print(Text(text))
