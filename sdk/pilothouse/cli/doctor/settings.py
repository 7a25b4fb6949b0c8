"""Walks over the settings of a section."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting with its place."""

    path: str
    """For example ``policy.server.port``."""
    key: str
    """The last part of it."""
    owner: BaseModel
    """The model that has it."""
    value: object
    """Not itself a model."""


def walk(path: str, value: object) -> Iterator[Setting]:
    """Yields every setting below ``value``, which stands at ``path``; lists and tables are walked too."""
    if isinstance(value, BaseModel):
        for key in type(value).model_fields:
            inner = getattr(value, key)
            if _has_models(inner):
                yield from walk(f"{path}.{key}", inner)
            else:
                yield Setting(f"{path}.{key}", key, value, inner)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from walk(f"{path}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from walk(f"{path}[{index}]", inner)


def _has_models(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(inner, BaseModel) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return any(isinstance(inner, BaseModel) for inner in value)
    return isinstance(value, BaseModel)
