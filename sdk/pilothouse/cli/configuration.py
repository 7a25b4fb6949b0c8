"""``config``: shows and checks the configuration."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from pilothouse import sections
from pilothouse.cli.options import ConfigFile, Json, Overrides
from pilothouse.cli.output import console, table, write_json
from pilothouse.config import Config
from pilothouse.server.config import check_doors

_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/]*@")

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def config() -> None:
    """Shows and checks the configuration."""


@app.command()
def show(config: ConfigFile = None, overrides: Overrides = None, json: Json = False) -> None:
    """Shows every setting as the processes will read it: defaults, file, environment, --set.

    Passwords in addresses, such as a database's, are left out.
    """
    values, absent = effective(config, overrides or [])
    document = {name: _without_passwords(value.model_dump(mode="json")) for name, value in values.items()}
    if json:
        write_json({**document, **dict.fromkeys(absent)})
        return
    rows = table("setting", "value")
    for name, section in document.items():
        for key, value in _flat(name, section):
            rows.add_row(Text(key), Text(str(value)))
    for name, why in absent.items():
        rows.add_row(Text(name), Text(why, style="yellow"))
    console().print(rows)


@app.command()
def check(config: ConfigFile = None, overrides: Overrides = None, json: Json = False) -> None:
    """Checks every section and key; exit status 2 and a suggestion for the first wrong one."""
    values, absent = effective(config, overrides or [])
    if json:
        write_json({"checked": sorted(values), "not_checked": absent})
    else:
        console().print(Text(f"checked: {', '.join(sorted(values))}"))
        for name, why in absent.items():
            console().print(Text(f"{name}: {why}", style="yellow"))


@app.command()
def schema() -> None:
    """Prints the JSON schema of a configuration file."""
    write_json(sections.json_schema())


def effective(file: Path | None, overrides: Sequence[str]) -> tuple[dict[str, Config], dict[str, str]]:
    """As `pilothouse.sections.effective`; what several sections decide together is checked too.

    Raises:
        ConfigError: A setting is wrong, or a server would be open to other machines without TLS.
    """
    values, absent = sections.effective(file=file, overrides=overrides)
    for name, section in values.items():
        check_doors(name, section, secured="tls" in values)
    return values, absent


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}", inner)]
    return [(prefix, value)]


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_passwords(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_passwords(entry) for entry in value]
    return _PASSWORD.sub(r"\1:(hidden)@", value) if isinstance(value, str) else value
