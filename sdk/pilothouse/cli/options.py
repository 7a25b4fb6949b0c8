"""Options that many commands share.

A command that takes ``ConfigFile`` and ``Overrides`` has clients with the identity that those configure,
section ``tls``, until it ends.
"""

from pathlib import Path
from typing import Annotated

import typer

from pilothouse.tls import configured


def _file(context: typer.Context, file: Path | None) -> Path | None:
    configured(file=file)
    context.call_on_close(lambda: configured(file=None))
    return file


def _overrides(context: typer.Context, overrides: list[str] | None) -> list[str] | None:
    configured(overrides=overrides or ())
    context.call_on_close(lambda: configured(overrides=()))
    return overrides


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="PILOTHOUSE_CONFIG",
        callback=_file,
        help="Configuration file (TOML).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        callback=_overrides,
        help="Overrides one setting; may be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line for scripts.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="HOST:PORT", help="Address of the service; else the one that `up` started."
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Longest wait.")]
