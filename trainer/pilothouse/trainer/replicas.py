"""The replicas of the policy: which there are, what each serves, and which of them may be asked."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from pilothouse.client import PolicyClient, WeightsClient, WeightsState
from pilothouse.client.addresses import Addresses
from pilothouse.errors import PilothouseError, UnavailableError
from pilothouse.trainer.patience import LOST

Answer = TypeVar("Answer")

Version = tuple[int, int]
"""(epoch, version)."""

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Replica:
    """One of them."""

    address: str
    """Of its weights port."""
    weights: WeightsClient
    policy: PolicyClient
    version: Version | None = None
    """What it served when it was last heard of; None once it was lost."""
    took_part: bool = False
    """Whether it has ever answered: from then on it is missed while it has an address."""
    calls: int = 0
    """Calls for completions that run there."""
    holders: int = 0
    """How many threads hold it, see `Replicas.held`."""

    def close(self) -> None:
        """Closes its channels; running calls are cancelled."""
        self.weights.close()
        self.policy.close()


@dataclass
class Heard(Generic[Answer]):
    """What came of asking several replicas at the same time."""

    answers: dict[Replica, Answer] = field(default_factory=dict)
    lost: dict[Replica, PilothouseError] = field(default_factory=dict)
    """Those that did not answer, and why."""


class Replicas:
    """Follows the policy's addresses. Any thread may call."""

    def __init__(self, addresses: Addresses, connect: Callable[[str], Replica]) -> None:
        """Knows no replica yet.

        Args:
            addresses: Of the replicas' weights ports.
            connect: Makes the clients of a replica, given that address.
        """
        self._addresses = addresses
        self._connect = connect
        self._changed = threading.Condition()
        self._members: dict[str, Replica] = {}
        self._leaving: list[Replica] = []

    @contextmanager
    def held(self) -> Iterator[list[Replica]]:
        """Yields every replica that has an address now, ready or not; none of them is closed meanwhile."""
        current = self._addresses.current()
        with self._changed:
            for address in sorted(current - self._members.keys()):
                _log.info("policy replica found", replica=address)
                self._members[address] = self._connect(address)
            for address in sorted(self._members.keys() - current):
                _log.info("policy replica is gone", replica=address)
                self._leaving.append(self._members.pop(address))
            members = [self._members[address] for address in sorted(self._members)]
            for replica in members:
                replica.holders += 1
        try:
            yield members
        finally:
            with self._changed:
                for replica in members:
                    replica.holders -= 1
                self._close_idle()

    def ask(self) -> dict[Replica, WeightsState]:
        """Asks every replica what it serves, and notes it.

        Raises:
            UnavailableError: None answers.
        """
        with self.held() as members:
            return self.ask_held(members)

    def ask_held(self, members: Sequence[Replica]) -> dict[Replica, WeightsState]:
        """As ``ask``, of replicas that are held."""
        heard = self.each(members, lambda replica: replica.weights.state())
        self.note({replica: (state.epoch, state.version) for replica, state in heard.answers.items()})
        if not heard.answers:
            raise nobody(heard.lost.values())
        return heard.answers

    def each(self, replicas: Sequence[Replica], work: Callable[[Replica], Answer]) -> Heard[Answer]:
        """Does the same with several replicas at the same time; those that do not answer are noted as lost.

        Call it while they are ``held``.

        Raises:
            PilothouseError: One has answered with an error, once all have ended.
        """
        heard = Heard[Answer]()
        if not replicas:
            return heard
        with ThreadPoolExecutor(len(replicas), thread_name_prefix="replica") as threads:
            futures = {replica: threads.submit(work, replica) for replica in replicas}
        refusal: PilothouseError | None = None
        for replica, future in futures.items():
            try:
                heard.answers[replica] = future.result()
            except LOST as error:
                heard.lost[replica] = error
            except PilothouseError as error:
                refusal = refusal or error
        self.note(dict.fromkeys(heard.lost))
        if refusal is not None:
            raise refusal
        return heard

    def note(self, versions: Mapping[Replica, Version | None]) -> None:
        """Notes what replicas serve; None for those that were lost."""
        with self._changed:
            for replica, version in versions.items():
                replica.version = version
                replica.took_part |= version is not None
            self._changed.notify_all()

    def once(self, work: Callable[[Replica], Answer]) -> Answer:
        """Asks the replica that has least to do among those that serve the newest weights.

        Raises:
            UnavailableError: No replica is known to serve, or it was lost.
        """
        self._ask_first()
        replica = self._take(alone=False)
        if replica is None:
            raise nobody(())
        return self._lend(replica, work)

    def anywhere(self, work: Callable[[Replica], Answer], *, alone: bool = False) -> Answer:
        """As ``once``, but if the replica is lost, another is asked.

        Args:
            work: The call; must be safe to repeat.
            alone: Wait for a replica that has nothing else to do.

        Raises:
            UnavailableError: No replica is known to serve; or what the last one raised when it was lost.
        """
        self._ask_first()
        lost: PilothouseError | None = None
        while (replica := self._take(alone)) is not None:
            try:
                return self._lend(replica, work)
            except LOST as error:
                lost = error
        raise lost or nobody(())

    def wait_ready(self, timeout_seconds: float) -> None:
        """Returns when all replicas take calls for completions; at the end of the time when one does.

        Raises:
            UnavailableError: None does.
        """
        with self.held() as members:
            heard = self.each(members, lambda replica: replica.policy.wait_ready(timeout_seconds))
        if not heard.answers:
            raise nobody(heard.lost.values())

    def close(self) -> None:
        """Closes every channel and follows the addresses no longer."""
        self._addresses.close()
        with self._changed:
            for replica in [*self._members.values(), *self._leaving]:
                replica.close()
            self._members.clear()
            self._leaving.clear()

    def _ask_first(self) -> None:
        """Asks all replicas where nothing is known of any."""
        with self._changed:
            known = any(replica.version for replica in self._members.values())
        if not known:
            self.ask()

    def _lend(self, replica: Replica, work: Callable[[Replica], Answer]) -> Answer:
        try:
            return work(replica)
        except LOST:
            self.note({replica: None})
            raise
        finally:
            with self._changed:
                replica.calls -= 1
                self._close_idle()
                self._changed.notify_all()

    def _take(self, alone: bool) -> Replica | None:
        """Returns a replica, one call more on its account; None where none is known to serve."""
        with self._changed:
            while True:
                versions = [replica.version for replica in self._members.values() if replica.version]
                if not versions:
                    return None
                serving = [entry for entry in self._members.values() if entry.version == max(versions)]
                chosen = min(serving, key=lambda replica: replica.calls)
                if not alone or chosen.calls == 0:
                    chosen.calls += 1
                    return chosen
                self._changed.wait()

    def _close_idle(self) -> None:
        """Closes those that have left and that nobody uses any more."""
        for replica in [entry for entry in self._leaving if entry.calls == entry.holders == 0]:
            self._leaving.remove(replica)
            replica.close()


def nobody(problems: Iterable[PilothouseError]) -> UnavailableError:
    """Returns the error of there being no replica to ask."""
    for problem in problems:
        return UnavailableError(str(problem))
    return UnavailableError("the policy has no replica now; start one, or wait until one is ready")
