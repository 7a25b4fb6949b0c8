"""``published.json`` of a run directory: what the policy is to serve, and the newest weights on disk.

The trainer writes it at every push and every checkpoint; a policy that starts reads it. A push that was
noted may have failed: whoever waits for its version must not wait for ever.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pilothouse.errors import CorruptDataError

FILE = "published.json"


@dataclass(frozen=True, slots=True)
class Published:
    """How far a run has got."""

    epoch: int
    version: int
    """With ``epoch``: what the policy was given last, or was about to be given."""
    model: str = ""
    """Model folder of the newest checkpoint, relative to the run directory; empty before the first."""
    model_epoch: int = 0
    model_version: int = 0

    def to_json(self) -> bytes:
        """Returns the file's content."""
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()


def read_published(run: Path) -> Published | None:
    """Returns what a run directory says; None where no run has published anything.

    Raises:
        CorruptDataError: The file is not what a trainer writes.
    """
    file = run / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CorruptDataError(f"{file} cannot be read: {error}; the run's trainer writes it anew") from None
    try:
        found = Published(**content)
        folder = (run / found.model).resolve()
        numbers = (found.epoch, found.version, found.model_epoch, found.model_version)
        sound = folder.is_relative_to(run.resolve()) and all(type(number) is int for number in numbers)
    except TypeError:
        sound = False
    if not sound:
        raise CorruptDataError(f"{file} is not what a trainer writes; the run's trainer writes it anew")
    return found
