"""Where a policy that starts finds its first weights: the run directory's newest checkpoint, or its model."""

from typing import NamedTuple

import structlog

from pilothouse.errors import CorruptDataError
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.requests import Version
from pilothouse.published import read_published

_log = structlog.get_logger(__name__)


class Source(NamedTuple):
    """What to load, and what else is known of the run."""

    model: str
    """Model folder, or ``tiny``."""
    version: Version
    """Of the weights in it; (0, 0) for the model that the configuration names."""
    published: Version
    """What the trainer has given to the policy last, or was about to give when it ended."""


def newest_on_disk(config: PolicyConfig) -> Source:
    """Returns the newest weights that a file holds."""
    start = Source(config.model, Version(0, 0), Version(0, 0))
    run = config.catch_up.run
    try:
        published = read_published(run) if run is not None else None
    except CorruptDataError as error:  # a policy that does not start could not be given weights either
        _log.warning("the run directory tells nothing", problem=str(error))
        return start
    if run is None or published is None:
        return start
    last = Version(published.epoch, published.version)
    if not published.model or not (folder := run / published.model).is_dir():
        return start._replace(published=last)
    return Source(str(folder), Version(published.model_epoch, published.model_version), last)
