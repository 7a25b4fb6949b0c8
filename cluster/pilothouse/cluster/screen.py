"""A picture of a release on one screen."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pilothouse.cli.output import table
from pilothouse.cluster.picture import Picture, PodView, TrainerView

_GOOD = ("Ready", "running", "finished", "Completed", "Succeeded")
_BAD = (
    "failed",
    "Failed",
    "Error",
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "OOMKilled",
    "Evicted",
)
_FIGURES = {
    "reward": "reward",
    "kl": "KL",
    "entropy": "entropy",
    "loss": "loss",
    "episodes_per_second": "episodes/s",
}


def render(picture: Picture) -> RenderableType:
    """Returns everything, one part below the other."""
    parts: list[RenderableType] = [_heading(picture), _pods(picture.pods)]
    parts += _training(picture)
    problems = [Text(f"{pod.name}: {pod.problem}", "yellow") for pod in picture.pods if pod.problem]
    if problems:
        parts += [Text(), *problems]
    return Group(*parts)


def age(seconds: float) -> str:
    """Returns a time as people read it: 42s, 5m, 3h, 2d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds / size)}{unit}"
    return f"{int(seconds)}s"


def trainer_line(trainer: TrainerView) -> str:
    """Returns where training stands, in one line."""
    parts = [trainer.state]
    if trainer.step is not None:
        parts.append(f"step {trainer.step}" + (f"/{trainer.total_steps}" if trainer.total_steps else ""))
    for name, label in _FIGURES.items():
        if (value := trainer.figures.get(name)) is not None:
            spread = trainer.figures.get(f"{name}_std")
            parts.append(f"{label} {value:.4g}" + ("" if spread is None else f" ± {spread:.2g}"))
    if trainer.weights:
        parts.append(f"weights {trainer.weights}")
    return "  ".join(parts)


def _heading(picture: Picture) -> Text:
    text = Text(f"{picture.release} in {picture.namespace}", "bold")
    if picture.version:
        text.append(f"  pilothouse {picture.version}", "not bold")
    text.append("\n")
    for each in picture.components:
        style = "green" if each.ready >= each.wanted else "yellow"
        text.append(f"{each.name} ", "not bold").append(f"{each.ready}/{each.wanted}", style).append("   ")
    return text.append("\n")


def _pods(pods: tuple[PodView, ...]) -> Table:
    rows = table("pod", "state", "restarts", "age", "node", "weights", "waiting", "running")
    for pod in pods:
        rows.add_row(
            Text(pod.name),
            _state(pod.state),
            str(pod.restarts),
            age(pod.age_seconds),
            Text(pod.node or "-"),
            Text(pod.weights or "-"),
            _number(pod.waiting),
            _number(pod.running),
        )
    return rows


def _training(picture: Picture) -> Iterator[Text]:
    trainer = picture.trainer
    if trainer is not None:
        line = trainer_line(trainer).removeprefix(trainer.state)
        yield Text("\ntrainer ").append(_state(trainer.state)).append(line)
        names = {"run": trainer.run, "job": trainer.job, "checkpoint": trainer.checkpoint}
        if told := "  ".join(f"{name} {value}" for name, value in names.items() if value):
            yield Text(f"        {told}")
        if trainer.problem:
            yield Text(f"        {trainer.problem}", "yellow")
    if picture.lease is not None and picture.lease.holder:
        seconds = picture.lease.renewed_seconds_ago
        renewed = "" if seconds is None else f", renewed {age(seconds)} ago"
        yield Text(f"lease   {picture.lease.holder}{renewed}")


def _state(state: str) -> Text:
    last = state.rpartition(":")[2]
    return Text(state, "green" if last in _GOOD else "red" if last in _BAD else "yellow")


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
