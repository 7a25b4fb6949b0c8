"""All sections of a configuration file, found by the entry points ``pilothouse.configs``.

A section belongs to the package that reads it; nothing here imports that package by name. A section whose
package misses a library is known by name only and is left unchecked, so that one file serves every image.
"""

import difflib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from pilothouse.config import ENVIRONMENT_PREFIX, Config, load, read_file
from pilothouse.errors import ConfigError

GROUP = "pilothouse.configs"
"""Entry-point group of the sections: ``name = "module:ConfigClass"``."""


def names() -> list[str]:
    """Returns the name of every known section, sorted."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})


def schema(section: str) -> type[Config]:
    """Returns the model of a section.

    Raises:
        ConfigError: No such section, with a suggestion.
        ModuleNotFoundError: The section's package misses a library.
    """
    for entry in importlib.metadata.entry_points(group=GROUP, name=section):
        found: type[Config] = entry.load()
        return found
    raise ConfigError(_unknown("section", section, names()))


def available() -> dict[str, type[Config]]:
    """Returns the models of all sections whose package can be imported here."""
    found = {}
    for name in names():
        try:
            found[name] = schema(name)
        except ModuleNotFoundError:
            continue
    return found


def load_section(
    section: str,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Reads one section; see `pilothouse.config.load`.

    Raises:
        ConfigError: The section or a key is unknown, missing or out of range.
    """
    return load(schema(section), section, file=file, overrides=overrides, environment=environment)


def check_names(
    file: Path | None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> set[str]:
    """Refuses section names that nobody reads.

    Returns:
        The sections that file, environment or overrides mention.

    Raises:
        ConfigError: A section of the file, of an override or of a ``PILOTHOUSE_SECTION__KEY`` variable is
            unknown.
    """
    known = names()
    content = read_file(file) if file else {}
    for name, value in content.items():
        if name not in known:
            raise ConfigError(f"{file}: {_unknown('section', name, known)}")
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: '{name}' must be a section; write [{name}] and its keys below")
    mentioned = set(content)
    for override in overrides:
        name = override.partition("=")[0].strip().partition(".")[0]
        if "=" not in override or "." not in override.partition("=")[0]:
            raise ConfigError(f"'{override}' is not an override; write section.key=value")
        if name not in known:
            raise ConfigError(f"--set {override}: {_unknown('section', name, known)}")
        mentioned.add(name)
    for variable in sorted(os.environ if environment is None else environment):
        if variable.startswith(ENVIRONMENT_PREFIX) and "__" in variable:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")[0].lower()
            if name not in known:
                raise ConfigError(f"environment variable {variable}: {_unknown('section', name, known)}")
            mentioned.add(name)
    return mentioned


def effective(
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[dict[str, Config], dict[str, str]]:
    """Returns every section as a process would read it, and why a section has no value.

    A section that nobody mentions and that has required keys is not an error: that process is not configured.

    Raises:
        ConfigError: A mentioned section or key is unknown, missing or out of range.
    """
    mentioned = check_names(file, overrides, environment)
    values: dict[str, Config] = {}
    absent: dict[str, str] = {}
    for name in names():
        try:
            values[name] = load_section(name, file=file, overrides=overrides, environment=environment)
        except ModuleNotFoundError as error:
            absent[name] = f"not checked: {error.name} is not installed"
        except ConfigError as error:
            if name in mentioned:
                raise
            absent[name] = f"not configured: {error}"
    return values, absent


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema (draft 2020-12) of a whole configuration file."""
    models = available()
    references, definitions = models_json_schema(
        [(model, "validation") for model in models.values()], ref_template="#/$defs/{model}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pilothouse configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: references[(model, "validation")] for name, model in models.items()},
        "$defs": definitions.get("$defs", {}),
    }


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
    return f"unknown {what} '{name}'; {hint}"
