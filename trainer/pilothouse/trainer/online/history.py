"""What turns leave behind: one line each, from which the next one goes on."""

from dataclasses import dataclass, fields

from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.online.config import LoopConfig

HISTORY = "turns.jsonl"
"""File in the loop's folder with one line for each finished turn."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one turn hands to the next."""

    turn: int
    """Turns done."""
    policy: str
    """Folder of the newest policy."""
    value_model: str
    """Folder of the scalar model from which the next value model starts; empty before the first."""
    rankings: int
    """Rankings that had come in when the last turn took its snapshot."""
    digest: str = ""
    """Of the last turn's last state."""


def last_standing(config: LoopConfig) -> Standing:
    """Returns where the finished turns have left things."""
    file = config.folder / HISTORY
    rows = list(read_rows(file)) if file.exists() else []
    if not rows:
        return Standing(0, config.model, "", 0)
    return Standing(**{field.name: rows[-1][field.name] for field in fields(Standing)})
