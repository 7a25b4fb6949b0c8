"""The Lease that one trainer holds, on a real API server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.cluster.conftest import Account, until
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import LEASE, Kind, Object, at
from pilothouse.cluster.lease import EPOCH, Lease
from pilothouse.errors import FencedError, PermissionDeniedError, UnavailableError

NAME = "rlhf-trainer"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def lease(api: Api, seconds: float = 15.0) -> Lease:
    return Lease(NAME, duration_seconds=seconds, api=api)


def test_the_first_to_come_makes_the_lease_and_holds_it(api: Api, stack: ExitStack) -> None:
    first = stack.enter_context(lease(api))
    assert first.acquire()
    first.confirm()
    spec = api.get(LEASE, NAME)["spec"]
    assert spec["holderIdentity"] == first.holder
    assert spec["leaseTransitions"] == 1
    assert spec["leaseDurationSeconds"] == 15
    assert first.epoch == 0


def test_a_second_trainer_waits_until_the_first_has_ended(api: Api, stack: ExitStack) -> None:
    with lease(api) as first:
        assert first.acquire()
        first.note_epoch(7)
        second = stack.enter_context(lease(api))
        got = threading.Event()
        threading.Thread(target=lambda: second.acquire() and got.set(), daemon=True).start()
        assert not got.wait(2.5)
    assert got.wait(30)
    assert second.epoch == 7
    second.note_epoch(8)
    assert at(api.get(LEASE, NAME), "metadata", "annotations", EPOCH) == "8"
    assert api.get(LEASE, NAME)["spec"]["leaseTransitions"] == 2
    second.confirm()


def test_waiting_can_be_given_up(api: Api, stack: ExitStack) -> None:
    first = stack.enter_context(lease(api))
    assert first.acquire()
    with lease(api) as second:
        assert not second.acquire(given_up=lambda: True)
    first.confirm()


def test_who_stops_renewing_is_replaced_and_learns_it(
    proxied: tuple[Api, Proxy], api: Api, stack: ExitStack
) -> None:
    through, proxy = proxied
    frozen = stack.enter_context(lease(through, seconds=3))
    assert frozen.acquire()
    frozen.note_epoch(4)
    proxy.refuse(True)
    proxy.cut()
    second = stack.enter_context(lease(api, seconds=3))
    assert second.acquire()
    assert second.epoch == 4
    with pytest.raises(UnavailableError, match="could not be renewed"):
        until(lambda: frozen.confirm(), "unsure of itself")
    proxy.refuse(False)
    with pytest.raises(FencedError, match=f"held by {second.holder}"):
        until(lambda: _fenced(frozen), "fenced")
    with pytest.raises(FencedError):
        frozen.note_epoch(5)
    second.wait_ready(30)


def _fenced(frozen: Lease) -> None:
    try:
        frozen.confirm()
    except UnavailableError:
        return


def test_a_short_loss_of_the_api_changes_nothing(proxied: tuple[Api, Proxy], stack: ExitStack) -> None:
    through, proxy = proxied
    held = stack.enter_context(lease(through, seconds=3))
    assert held.acquire()
    proxy.refuse(True)
    proxy.cut()
    with pytest.raises(UnavailableError):
        until(lambda: held.confirm(), "unsure of itself")
    proxy.refuse(False)
    held.wait_ready(30)


def test_connections_that_died_unnoticed_do_not_cost_the_lease(
    proxied: tuple[Api, Proxy], api: Api, stack: ExitStack
) -> None:
    through, proxy = proxied
    held = stack.enter_context(lease(through, seconds=12))
    assert held.acquire()
    before = api.get(LEASE, NAME)["spec"]["renewTime"]
    proxy.freeze()
    until(lambda: api.get(LEASE, NAME)["spec"]["renewTime"] != before, "renewed by another", 40)
    held.confirm()


class LateAnswers(Api):
    """Answers to changes come when the test says so."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.configuration, api.namespace)
        self.applied: list[float] = []
        """When a change was in force."""
        self.answering = threading.Event()
        self.answering.set()

    def replace(self, kind: Kind, name: str, body: Object, part: str = "") -> Object:
        answer = super().replace(kind, name, body, part)
        self.applied.append(time.monotonic())
        self.answering.wait(60)
        return answer


def test_a_renewal_counts_from_when_it_was_sent_and_not_from_its_answer(api: Api, stack: ExitStack) -> None:
    late = LateAnswers(api)
    held = stack.enter_context(lease(late, seconds=3))
    assert held.acquire()
    first, so_far = held._renewed, len(late.applied)
    late.answering.clear()
    until(lambda: len(late.applied) > so_far, "in force, though nobody knows")
    late.answering.set()
    until(lambda: held._renewed != first, "known")
    assert held._renewed <= late.applied[-1]


class LostAnswer(Api):
    """The first change is made, and its answer lost."""

    lost = False

    def replace(self, kind: Kind, name: str, body: Object, part: str = "") -> Object:
        answer = super().replace(kind, name, body, part)
        if not self.lost:
            self.lost = True
            raise UnavailableError("the connection broke; try again")
        return answer


def test_a_lease_that_was_taken_without_an_answer_is_known_as_ours(api: Api, stack: ExitStack) -> None:
    api.create(LEASE, {"metadata": {"name": NAME}})
    attempts = iter([False, False, True])
    mine = stack.enter_context(lease(LostAnswer(api.configuration, api.namespace)))
    assert mine.acquire(given_up=lambda: next(attempts))


def test_an_epoch_is_noted_although_an_answer_is_lost(api: Api, stack: ExitStack) -> None:
    api.create(LEASE, {"metadata": {"name": NAME}})
    losing = LostAnswer(api.configuration, api.namespace)
    losing.lost = True
    held = stack.enter_context(lease(losing))
    assert held.acquire()
    held._api.lost = False  # type: ignore[attr-defined]
    held.note_epoch(3)
    assert held.epoch == 3


def test_a_pod_that_replaces_one_of_the_same_name_waits_like_any_other(
    api: Api, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pod of a Job with several ranks is always JOB-0; the one before may still run somewhere."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    first = stack.enter_context(lease(api))
    assert first.holder.startswith(f"{socket.gethostname()}_")
    assert first.acquire()
    attempts = iter([False, True])
    with lease(api) as second:
        assert not second.acquire(given_up=lambda: next(attempts))
    first.confirm()


def test_changes_by_others_do_not_disturb_the_holder(api: Api, stack: ExitStack) -> None:
    held = stack.enter_context(lease(api, seconds=3))
    assert held.acquire()
    before = api.get(LEASE, NAME)["spec"]["renewTime"]
    api.patch(LEASE, NAME, {"metadata": {"labels": {"seen": "yes"}}})
    until(lambda: api.get(LEASE, NAME)["spec"]["renewTime"] != before, "renewed")
    held.wait_ready(30)
    assert at(api.get(LEASE, NAME), "metadata", "labels", "seen") == "yes"


def test_two_that_come_at_the_same_moment_are_not_both_holders(api: Api, stack: ExitStack) -> None:
    several = [stack.enter_context(lease(api)) for _ in range(6)]
    end, holders = threading.Event(), list[str]()

    def take(one: Lease) -> None:
        if one.acquire(given_up=end.is_set):
            holders.append(one.holder)

    threads = [threading.Thread(target=take, args=(one,), daemon=True) for one in several]
    for thread in threads:
        thread.start()
    until(lambda: holders, "one holds it")
    end.set()
    for thread in threads:
        thread.join(30)
    assert len(holders) == 1
    assert api.get(LEASE, NAME)["spec"]["holderIdentity"] == holders[0]


def test_a_lease_that_only_was_made_can_be_taken(api: Api, stack: ExitStack) -> None:
    api.create(LEASE, {"metadata": {"name": NAME}})  # as the chart makes it
    assert stack.enter_context(lease(api)).acquire()


def test_a_deleted_lease_is_lost(api: Api, stack: ExitStack) -> None:
    held = stack.enter_context(lease(api, seconds=3))
    assert held.acquire()
    api.delete(LEASE, NAME)
    with pytest.raises(FencedError, match="it was deleted"):
        until(lambda: held.confirm(), "lost")


def test_a_missing_right_is_named(account: Account) -> None:
    rules = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]}
    mine = connect(kubeconfig=account(rules))
    with pytest.raises(PermissionDeniedError, match=r"may not create leases.*verbs: \[create\]"):
        lease(mine).acquire()
