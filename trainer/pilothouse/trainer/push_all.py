"""Brings new weights to all replicas of the policy as one transaction.

Every replica receives the weights first; only when enough of them have is anything committed anywhere. A
replica that fails is asked for no completions until it serves what the others serve.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import structlog

from pilothouse.client import KvPolicy, PushResult, StagedPush, WeightsState
from pilothouse.client.push_plan import PushPlan, plan_push
from pilothouse.errors import (
    NotFoundError,
    ParentMismatchError,
    PilothouseError,
    StaleVersionError,
    UnavailableError,
)
from pilothouse.tensors import Tokens
from pilothouse.trainer.patience import LOST
from pilothouse.trainer.replicas import Replica, Replicas, Version, nobody

Quorum = Literal["all", "majority"]

_TOUCH_SECONDS = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NewWeights:
    """What is to serve at every replica."""

    tensors: Mapping[str, npt.NDArray[np.generic]]
    """Every parameter by name; must not change meanwhile."""
    run: str
    epoch: int
    version: int
    parent: Version | None = None
    """Who serves it has the ``unchanged`` tensors already."""
    unchanged: Mapping[str, bytes] = field(default_factory=dict)
    """Their digests by name."""
    probes: Sequence[Tokens] = ()
    kv_policy: KvPolicy | None = None

    @cached_property
    def short(self) -> PushPlan:
        """For replicas that serve ``parent``."""
        return plan_push(self.tensors, self.unchanged)

    @cached_property
    def whole(self) -> PushPlan:
        """For replicas that serve anything else."""
        return plan_push(self.tensors) if self.unchanged else self.short


class WeightReplicas:
    """The weights ports of all replicas."""

    def __init__(self, replicas: Replicas, quorum: Quorum) -> None:
        """Pushes to ``replicas``.

        Args:
            replicas: All of them.
            quorum: How many must take part of those that answer or, while they have an address, ever did.
        """
        self._replicas = replicas
        self._quorum = quorum

    def states(self) -> Sequence[WeightsState]:
        """Returns what every replica serves that can be reached.

        Raises:
            UnavailableError: None can.
        """
        return list(self._replicas.ask().values())

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns when all replicas take weights; at the end of the time when one does.

        Raises:
            UnavailableError: None does.
        """
        with self._replicas.held() as members:
            heard = self._replicas.each(members, lambda replica: replica.weights.wait_ready(timeout_seconds))
        if not heard.answers:
            raise nobody(heard.lost.values())

    def push(self, new: NewWeights) -> list[PushResult]:
        """Brings new weights into service at every replica that can be reached, or at none.

        Returns:
            What those answered that did not serve them already; a repeated push has fewer answers.

        Raises:
            UnavailableError: Too few replicas took part. Where that shows after the first commit, repeating
                the push completes it.
            PilothouseError: A replica refused; see `pilothouse.client.WeightsClient.push`.
        """
        _ = new.short  # hashed before anybody is asked: who answers a moment later is not pushed to
        with self._replicas.held() as members:
            states = self._replicas.ask_held(members)
            voters = {replica for replica in members if replica.took_part} | states.keys()
            self._demand(len(states), voters, "answer")  # before the bytes travel
            done = [replica for replica, state in states.items() if _serves(state, new)]
            behind = [replica for replica in states if replica not in done]
            with self._staged(new, behind, done) as staged:
                self._demand(len(done) + len(staged), voters, "could be given the weights")
                commits = self._replicas.each(list(staged), partial(self._commit, new, staged))
            self._replicas.note(dict.fromkeys(done, (new.epoch, new.version)))
            self._demand(len(done) + len(commits.answers), voters, "have committed the weights")
        for replica, error in commits.lost.items():
            _log.warning("replica did not commit", replica=replica.address, problem=str(error))
        return list(commits.answers.values())

    def _commit(self, new: NewWeights, staged: Mapping[Replica, StagedPush], replica: Replica) -> PushResult:
        """Commits at one replica and notes it, whatever comes of the others."""
        try:
            result = replica.weights.commit(staged[replica], probes=new.probes, kv_policy=new.kv_policy)
        except NotFoundError as error:
            raise UnavailableError(f"{replica.address} has lost the weights it was given: {error}") from error
        self._replicas.note({replica: (new.epoch, new.version)})
        return result

    @contextmanager
    def _staged(
        self, new: NewWeights, behind: Sequence[Replica], done: list[Replica]
    ) -> Iterator[dict[Replica, StagedPush]]:
        """Uploads to several replicas at the same time; what was not committed is dropped on an error.

        A replica that has copied the same weights from another one meanwhile becomes one of those ``done``.
        """
        staged: dict[Replica, StagedPush] = {}

        def stage(replica: Replica) -> None:
            try:
                staged[replica] = _stage(replica, new)
            except StaleVersionError:
                if not _serves(replica.weights.state(), new):
                    raise
                done.append(replica)

        ended = threading.Event()
        keeping = threading.Thread(target=_keep_alive, args=(staged, ended), daemon=True)
        keeping.start()
        try:
            self._replicas.each(behind, stage)
            ended.set()
            yield staged
        except BaseException:
            for replica, push in list(staged.items()):
                replica.weights.abort(push)  # of a committed one: nothing happens
            raise
        finally:
            ended.set()
            keeping.join()

    def _demand(self, count: int, voters: set[Replica], what: str) -> None:
        needed = len(voters) if self._quorum == "all" else len(voters) // 2 + 1
        if count < needed:
            raise UnavailableError(
                f"{count} of {len(voters)} policy replicas {what}, {needed} are needed "
                f"(ppo.publish.quorum = '{self._quorum}'); see that the others are running"
            )


def _serves(state: WeightsState, new: NewWeights) -> bool:
    at = (state.epoch, state.version) == (new.epoch, new.version)
    return at and state.digest == new.short.manifest.digest.hex()


def _stage(replica: Replica, new: NewWeights) -> StagedPush:
    """Uploads to one replica: what has changed, or everything where it serves something else."""
    stage = partial(replica.weights.stage, run=new.run, epoch=new.epoch, version=new.version)
    if new.unchanged and replica.version == new.parent:
        try:
            return stage(new.short, parent=new.parent)
        except ParentMismatchError:
            _log.warning("policy lost the parent version; pushing all tensors", replica=replica.address)
    return stage(new.whole)


def _keep_alive(staged: Mapping[Replica, StagedPush], ended: threading.Event) -> None:
    """Tells replicas that are ready, while slower ones still receive, that their push goes on."""
    while not ended.wait(_TOUCH_SECONDS):
        for replica, push in list(staged.items()):
            try:
                replica.weights.touch(push)
            except LOST:
                continue  # the commit will tell
            except PilothouseError as error:
                _log.warning("staged weights are lost", replica=replica.address, problem=str(error))
