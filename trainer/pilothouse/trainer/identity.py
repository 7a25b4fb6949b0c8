"""What must stay the same for a checkpoint to be continued: one rule for SFT, reward models and PPO.

A setting that can change a bit of what is learned belongs to a run's identity; data do by their content, not
by their paths. A run goes on with the same identity only, unless its user says otherwise. What decides how
long it goes, where it lies, whom it calls, how it is watched and when a gate stops it may change.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from pydantic.main import IncEx

from pilothouse.config import Config
from pilothouse.errors import DivergedRunError
from pilothouse.trainer.checkpoint import Checkpoint

Identity = Mapping[str, Any]
"""JSON that checkpoints keep under ``identity``: settings by section, digests of data."""

_log = structlog.get_logger(__name__)


def identity(config: Config, may_change: IncEx, **content: str) -> Identity:
    """Returns a run's identity.

    Args:
        config: All its settings.
        may_change: Those that do not belong to it, in pydantic's form: keys, in sections by section.
        content: Digests of data by name, and whatever else must stay.
    """
    return config.model_dump(mode="json", exclude=may_change) | content


def check_identity(checkpoint: Checkpoint, now: Identity, *, accept: bool, flag: str, anew: str) -> None:
    """Makes sure that a run may go on from a checkpoint.

    Args:
        checkpoint: Where it would go on.
        now: Its identity as it is started now.
        accept: Go on although it is another; that is only logged.
        flag: Key of the setting behind ``accept``.
        anew: What the user can do instead.

    Raises:
        DivergedRunError: The identity is another; the message names what changed.
    """
    changed = changed_keys(checkpoint.state.get("identity", {}), now)
    if changed and not accept:
        raise DivergedRunError(
            f"{checkpoint.folder} was written with other settings ({', '.join(changed)}); restore them, "
            f"{anew}, or set {flag} = true to go on with a run that is no longer decided by its seed alone"
        )
    if changed:
        _log.warning("going on with other settings", checkpoint=checkpoint.folder.name, changed=changed)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns the dotted keys, sorted, whose values differ.

    A key that only one side has came or went with a version of this program, whose default keeps what was.
    """
    changed = []
    for key in sorted(old.keys() & new.keys()):
        before, after = old[key], new[key]
        if isinstance(before, dict) and isinstance(after, dict):
            changed += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(f"{prefix}{key}")
    return changed
