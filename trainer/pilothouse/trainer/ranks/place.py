"""Which rank this process is, by the environment variables of torchrun."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pilothouse.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those that share a run."""

    index: int = 0
    """From 0; rank 0 is the trainer."""
    size: int = 1
    """How many there are."""

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "Place":
        """Returns this process's place by ``RANK`` and ``WORLD_SIZE``; alone where they are not set.

        Raises:
            ConfigError: They, or the address of rank 0, cannot be used.
        """
        size = _number(environment, "WORLD_SIZE", default="1")
        if size == 1:
            return cls()
        index = _number(environment, "RANK")
        if size < 1 or not 0 <= index < size:
            raise ConfigError(f"RANK={index} of WORLD_SIZE={size} is no rank; they count from 0")
        if not environment.get("MASTER_ADDR") or not 0 < _number(environment, "MASTER_PORT") < 2**16:
            raise ConfigError(
                "MASTER_ADDR and MASTER_PORT must name the host of rank 0 and a free port of it"
            )
        return cls(index, size)


def demand_one_rank(what: str) -> None:
    """Makes sure that a command that does not share its work was not started on several ranks.

    Raises:
        ConfigError: It was.
    """
    if (size := Place.here().size) > 1:
        raise ConfigError(f"{what} runs on one rank, this is one of {size}; start it without torchrun")


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    try:
        return int(environment.get(name, default))
    except ValueError:
        found = f"'{environment[name]}'" if name in environment else "not set"
        raise ConfigError(
            f"{name} is {found} and must be a number; let torchrun set it, or set RANK, WORLD_SIZE, "
            "MASTER_ADDR and MASTER_PORT for every rank"
        ) from None
