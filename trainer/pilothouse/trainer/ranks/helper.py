"""The side of all other ranks: they take every step with rank 0 and keep nothing."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
import torch

from pilothouse.errors import RankLostError, RunStoppedError
from pilothouse.models.memory import keep_freed_memory
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.ranks.group import Group
from pilothouse.trainer.ranks.leader import Order, agree
from pilothouse.trainer.ranks.messages import to_batch, to_learner
from pilothouse.trainer.ranks.place import Place
from pilothouse.trainer.run_config import PpoRunConfig

_log = structlog.get_logger(__name__)


def help_ppo(config: PpoRunConfig) -> bool:
    """Helps rank 0 until it ends the run. Of the settings, only those of the process itself are read.

    Call it from the main thread: SIGTERM and Ctrl-C ask rank 0 to save and to end the run for all.

    Returns:
        Whether the run is finished, and was not stopped.

    Raises:
        RankLostError: Another rank was lost, or rank 0 has ended the run with an error.
    """
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    place = Place.here()
    with Group.joined(place, config.ranks, config.device) as group, _told_to_end() as leaving:
        learner: PpoLearner | None = None
        while True:
            match agree(group, leaving=leaving())[0]:
                case Order.LOAD:
                    learner = to_learner(group.hear(), group, config.device)
                case Order.LEARN if learner is not None:
                    _learn(learner, group)
                case Order.FINISHED | Order.STOPPED as order:
                    return order == Order.FINISHED
                case Order.FAILED:
                    raise RankLostError("rank 0 has ended the run with an error; see what it says")


def _learn(learner: PpoLearner, group: Group) -> None:
    batch, texts = to_batch(group.hear())
    try:
        learner.step(batch, texts)
    except RunStoppedError:
        _log.warning("a gate has stopped the run; rank 0 says which", rank=group.index)


@contextmanager
def _told_to_end() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGTERM or Ctrl-C has come; a second one ends the process."""
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    former = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
