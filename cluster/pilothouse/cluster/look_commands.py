"""Commands that look and change nothing: ``status``, ``watch``, ``logs``."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from pilothouse.cli.exits import Exit
from pilothouse.cli.options import ConfigFile, Json, JsonLines
from pilothouse.cli.output import console, notices, write_json
from pilothouse.cluster.following import follow, news
from pilothouse.cluster.logs import Line, Wanted, chosen, read_logs
from pilothouse.cluster.looking import look
from pilothouse.cluster.options import JobName, Where, identified, located
from pilothouse.cluster.picture import Picture
from pilothouse.cluster.screen import render
from pilothouse.cluster.tailing import Tailing
from pilothouse.errors import ConfigError, NotFoundError

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@located
def status(where: Where, config: ConfigFile = None, json: Json = False) -> None:
    """Shows the release on one screen: pods, weight versions, queues, training.

    Exit status 1 if a component lacks pods or training failed.
    """
    api, release = where.find()
    with identified(api, release) as identity:
        found = look(api, release, identity)
    if json:
        write_json(asdict(found))
    else:
        console().print(render(found))
    if not found.is_well:
        raise typer.Exit(Exit.FAILED)


Every = Annotated[
    float, typer.Option("--every", metavar="SECONDS", min=0.5, help="How often pods are asked for figures.")
]


@located
def watch(
    where: Where,
    config: ConfigFile = None,
    json: JsonLines = False,
    every: Every = 5.0,
    job: JobName = None,
) -> None:
    """Shows the release as it changes, until the trainer's job has ended.

    On a terminal the screen of `status`, elsewhere a line for each change. Exit status 0 when the job has
    finished, 1 when it failed or was deleted, 130 when it was stopped or on Ctrl-C. Without a job it goes on.
    """
    api, release = where.find()
    with identified(api, release) as identity, follow(api, release, identity, every) as pictures:
        try:
            ended = _shown_until_the_end(pictures, job, json)
        except KeyboardInterrupt:
            ended = Exit.INTERRUPTED
    if ended:
        raise typer.Exit(ended)


What = Annotated[
    str | None, typer.Argument(metavar="[COMPONENT|POD|JOB]", help="Whose logs; else those of all pods.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")]
Previous = Annotated[bool, typer.Option("--previous", help="Of the containers before their last restart.")]
Tail = Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Last lines of each container.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Of the last 90s, 10m, 2h, 1d.")]
Timestamps = Annotated[bool, typer.Option("--timestamps", help="Show when each line was written.")]


@located
def logs(
    where: Where,
    what: What = None,
    follow: Follow = False,
    previous: Previous = False,
    tail: Tail = None,
    since: Since = None,
    timestamps: Timestamps = False,
    json: JsonLines = False,
) -> None:
    """Shows logs of several pods as one, in the order of time.

    With --follow it goes on over restarts, with new pods, and over broken connections. Exit status 75 if
    the log of a pod is out of reach; the others are shown.
    """
    if follow and previous:
        raise ConfigError("--previous is of containers that have ended; leave out --follow")
    wanted = Wanted(tail, None if since is None else _seconds(since), previous)
    api, release = where.find()
    unread: list[str] = []

    def tell(what: str) -> None:
        unread.append(what)
        notices().print(Text(what, "yellow"))

    if follow:
        try:
            chosen(api, release, what)
        except NotFoundError as error:  # it may come yet, but a typing error never does
            notices().print(Text(f"{error}; waiting for it"))
        lines = Tailing(api, release, what, wanted).lines()
    else:
        lines = read_logs(api, chosen(api, release, what), wanted, tell)
    show = _line_writer(json=json, timestamps=timestamps)
    try:
        for line in lines:
            show(line)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if unread:
        raise typer.Exit(Exit.UNAVAILABLE)


def _shown_until_the_end(pictures: Iterator[Picture], job: str | None, json: bool) -> Exit:
    """Shows each picture; returns how the job has ended."""
    screen = console()
    live = Live(console=screen, auto_refresh=False) if screen.is_terminal and not json else None
    before: Picture | None = None
    with live or nullcontext():
        for found in pictures:
            if live is not None:
                live.update(render(found), refresh=True)
            elif json:
                write_json(asdict(found), lines=True)
            else:
                for line in news(before, found):
                    screen.print(Text(line))
            job = job or (found.trainer.job if found.trainer else None)
            if job and (ended := _outcome(found, job)) is not None:
                return ended
            before = found
    raise AssertionError("unreachable: there is always another picture")


def _outcome(found: Picture, job: str) -> Exit | None:
    """Returns the exit status where the job has ended; None where it goes on."""
    state = found.jobs.get(job)
    if state is None:
        notices().print(Text(f"job {job} is not there"))
        return Exit.FAILED
    return {"finished": Exit.OK, "failed": Exit.FAILED, "stopped": Exit.INTERRUPTED}.get(state)


def _line_writer(*, json: bool, timestamps: bool) -> Callable[[Line], None]:
    """Returns what writes a line: for scripts, or with the pod's name before it."""
    screen = console()
    colours: dict[str, str] = {}

    def show(line: Line) -> None:
        if json:
            write_json(line, lines=True)
            return
        colour = colours.setdefault(line.pod, _COLOURS[len(colours) % len(_COLOURS)])
        time = f"{line.time} " if timestamps and line.time else ""
        screen.print(Text(f"{line.pod} ", colour).append(f"{time}{line.text}", "default"))
        sys.stdout.flush()

    return show


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found or not float(found[1]):
        raise ConfigError(f"--since {text} is no time; write 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]
