"""Rank 0's side: it says when to learn and from what, and keeps in touch meanwhile."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum

import structlog
import torch
from torch import Tensor

from pilothouse.errors import ConfigError, RankLostError, RunStoppedError
from pilothouse.tensors import Tokens
from pilothouse.trainer.ppo.batch import RolloutBatch
from pilothouse.trainer.ppo.ragged import OneRank, Ranks
from pilothouse.trainer.ppo.step import PpoLearner
from pilothouse.trainer.ranks.config import RanksConfig
from pilothouse.trainer.ranks.group import Group, Json
from pilothouse.trainer.ranks.messages import of_batch, of_learner
from pilothouse.trainer.ranks.place import Place
from pilothouse.trainer.run_config import PpoRunConfig

_LONGEST_SILENCE_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Order(IntEnum):
    """What the others do next."""

    WAIT = 0
    """Rank 0 is busy: listen for the next order."""
    LOAD = 1
    """Take over the learner that follows."""
    LEARN = 2
    """Take a step with the batch that follows."""
    FINISHED = 3
    """The run is done."""
    STOPPED = 4
    """The run was asked to stop; it goes on another time."""
    FAILED = 5
    """The run ended with an error, which rank 0 tells."""


def agree(group: Group, order: Order = Order.WAIT, *, leaving: bool = False) -> tuple[Order, bool]:
    """Returns rank 0's order, and whether any rank was told to end. All ranks call this.

    Args:
        group: All ranks.
        order: Rank 0's; the others leave it.
        leaving: Whether this rank was told to end.
    """
    heard, wishes = group.sum(torch.tensor([int(order), int(leaving)])).tolist()
    return Order(heard), wishes > 0


class Alone:
    """A trainer without helpers."""

    ranks: Ranks = OneRank()
    """Those who share each batch."""

    def share(self, learner: PpoLearner) -> None:
        """Lets all ranks go on from where the learner stands."""

    @contextmanager
    def learning(self, batch: RolloutBatch, texts: Sequence[Tokens]) -> Iterator[None]:
        """Inside, the learner takes a step with this batch and these texts, on all ranks."""
        yield

    def end(self, order: Order) -> None:
        """Tells the others how the run has ended."""


class Leader(Alone):
    """The trainer among several ranks. A thread of its own keeps in touch while rank 0 does other things."""

    def __init__(self, group: Group, config: RanksConfig, on_leave: Callable[[], object]) -> None:
        """Begins to keep in touch.

        Args:
            group: All ranks.
            config: How long a rank may be silent.
            on_leave: Called, from any thread, when another rank was told to end.
        """
        self.ranks: Ranks = group
        self._group = group
        self._on_leave = on_leave
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._leaving = False
        self._lost: RankLostError | None = None
        self._pause_seconds = min(config.timeout_seconds / 4, _LONGEST_SILENCE_SECONDS)
        self._thread = threading.Thread(target=self._keep_in_touch, name="ranks", daemon=True)
        self._thread.start()

    def share(self, learner: PpoLearner) -> None:
        """Lets all ranks go on from where the learner stands.

        Raises:
            RankLostError: A rank was lost.
        """
        with self._together(Order.LOAD, *of_learner(learner)):
            pass

    @contextmanager
    def learning(self, batch: RolloutBatch, texts: Sequence[Tokens]) -> Iterator[None]:
        """Inside, the learner takes a step with this batch and these texts, on all ranks.

        Raises:
            RankLostError: A rank was lost.
        """
        with self._together(Order.LEARN, *of_batch(batch, texts)):
            yield

    def end(self, order: Order) -> None:
        """Tells the others, unless they are lost, how the run has ended.

        Raises:
            RankLostError: The run was stopped because a rank was lost.
        """
        with self._turn:
            if not self._ended.is_set():
                self._ended.set()
                with suppress(RankLostError):  # all there is to say has been said
                    self._say(order)
        self._thread.join()
        if self._lost is not None and order == Order.STOPPED:
            raise self._lost

    @contextmanager
    def _together(self, order: Order, what: Json, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Gives an order with what belongs to it; inside, all ranks follow it."""
        with self._turn:
            try:
                self._say(order)
                self._group.tell(what, tensors)
                yield
            except RunStoppedError:
                raise  # from numbers that all ranks share: the others stopped at the same place
            except BaseException:
                self._ended.set()  # they wait for sums that will not come; no order can reach them
                raise

    def _say(self, order: Order) -> None:
        if agree(self._group, order)[1] and not self._leaving:
            self._leaving = True
            _log.warning("another rank was told to end; the run stops before its next step")
            self._on_leave()

    def _keep_in_touch(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            with self._turn:
                if self._ended.is_set():
                    return
                try:
                    self._say(Order.WAIT)
                except RankLostError as error:
                    _log.warning("a rank is lost; the run stops before its next step", problem=str(error))
                    self._lost = error  # who uses the group before that hears of it too
                    self._on_leave()
                    return


@contextmanager
def leading(config: PpoRunConfig, on_leave: Callable[[], object]) -> Iterator[Alone]:
    """Waits for the other ranks, where the environment says that there are some, and yields rank 0's side.

    Args:
        config: The run.
        on_leave: Called, from any thread, when another rank was told to end.

    Raises:
        ConfigError: This is not rank 0, or there are more ranks than responses.
        RankLostError: Not all came in time.
    """
    place = Place.here()
    if place.size == 1:
        yield Alone()
        return
    if place.index:
        raise ConfigError(f"rank {place.index} only helps in `pilothouse train ppo`; start this on rank 0")
    responses = config.rollout.prompts_per_step * config.rollout.samples_per_prompt
    if place.size > responses:
        raise ConfigError(
            f"{place.size} ranks cannot share the {responses} responses of a step; raise "
            "ppo.rollout.prompts_per_step or start fewer ranks"
        )
    with Group.joined(place, config.ranks, config.device) as group:
        _log.info("ranks met", ranks=place.size)
        leader = Leader(group, config.ranks, on_leave)
        try:
            yield leader
        finally:
            leader.end(Order.FAILED)
