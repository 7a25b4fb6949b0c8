"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="PILOTHOUSE_CONFIG", help="Configuration file (TOML)."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Overrides one setting; may be repeated."),
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
