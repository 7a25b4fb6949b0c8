"""One configuration schema for file, environment and flags.

A process has a section in a TOML file (``[policy]``), may be overridden by the environment
(``PILOTHOUSE_POLICY__MAX_RUNNING=8``) and last by flags (``--set policy.max_running=8``). ``none``, in a file
``"none"``, turns an optional setting off.
"""

import datetime
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from pilothouse.errors import ConfigError

ENVIRONMENT_PREFIX = "PILOTHOUSE_"


class Config(BaseModel):
    """Base of every configuration section: frozen, unknown keys refused, a docstring under each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any, info: ValidationInfo) -> Any:
        """Reads "none" as None where that is a choice: TOML has no word for it."""
        assert info.field_name is not None  # it is only None outside of a model
        annotation = cls.model_fields[info.field_name].annotation
        return None if value == "none" and NoneType in get_args(annotation) else value


ConfigT = TypeVar("ConfigT", bound=Config)


def load(
    schema: type[ConfigT],
    section: str,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ConfigT:
    """Reads one section: defaults < file < environment < overrides.

    Args:
        schema: The section's model.
        section: Its name in the file, for example ``policy``.
        file: TOML file; None for none.
        overrides: ``section.key=value`` strings; those of other sections are skipped.
        environment: Defaults to the process's own.

    Raises:
        ConfigError: The file cannot be read, or a key is unknown (with a suggestion), missing or out of
            range.
    """
    values = section_values(section, file, overrides, environment)
    return parse(schema, values or {}, section=section)


def load_optional(
    schema: type[ConfigT],
    section: str,
    *,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ConfigT | None:
    """As ``load``; None where neither file nor environment nor overrides mention the section."""
    values = section_values(section, file, overrides, environment)
    return None if values is None else parse(schema, values, section=section)


def parse(schema: type[ConfigT], values: Mapping[str, Any], *, section: str) -> ConfigT:
    """Validates one section's values.

    Raises:
        ConfigError: A key is unknown (with a suggestion), missing or out of range.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(schema, section, problem) for problem in error.errors())
        raise ConfigError(problems) from None


def read_file(file: Path) -> dict[str, Any]:
    """Returns the sections of a TOML file.

    Raises:
        ConfigError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def section_values(
    section: str, file: Path | None, overrides: Sequence[str], environment: Mapping[str, str] | None
) -> dict[str, Any] | None:
    """Returns a section's values, not yet validated; None where nobody mentions it.

    Raises:
        ConfigError: The file cannot be read, or an override names no key.
    """
    found = _section(file, section) if file else None
    values = found or {}
    mentioned = found is not None
    prefix = f"{ENVIRONMENT_PREFIX}{section.upper()}__"
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(prefix):
            _assign(values, name.removeprefix(prefix).lower().split("__"), text)
            mentioned = True
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not an override; write section.key=value")
        keys = path.strip().split(".")
        if len(keys) < 2:
            raise ConfigError(f"'{override}' names no key; write section.key=value")
        if keys[0] == section:
            _assign(values, keys[1:], text)
            mentioned = True
    return values if mentioned else None


def _section(file: Path, section: str) -> dict[str, Any] | None:
    values = read_file(file).get(section)
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section} in {file} must be a table; write [{section}] above its keys")
    return dict(values)


def _assign(values: dict[str, Any], keys: Sequence[str], text: str) -> None:
    for key in keys[:-1]:
        inner = values.get(key, {})
        values[key] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[key]
    values[keys[-1]] = _literal(text)


def _literal(text: str) -> Any:
    """Reads a flag's text as TOML would, and as a plain string where it is not TOML."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = document.pop("value")
    # A name may look like a date or hold a line break; no setting is one or needs one.
    return text if document or isinstance(value, datetime.date | datetime.time) else value


def _explain(schema: type[BaseModel], section: str, problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join([section, *path])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    known = _keys(schema, path[:-1])
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    if close:
        return f"unknown key {where}; did you mean '{close[0]}'?"
    return f"unknown key {where}; known keys: {', '.join(sorted(known)) or 'none'}"


def _keys(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Returns the field names of the model found by walking ``path`` from ``schema``."""
    for part in path:
        if part.isdecimal():
            continue  # a place in a list, whose element model was found by the list's name
        field = schema.model_fields.get(part)
        found = None if field is None else _model_in(field.annotation)
        if found is None:
            return []
        schema = found
    return list(schema.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the model inside an annotation such as ``Part``, ``Part | None`` or ``tuple[Part, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
