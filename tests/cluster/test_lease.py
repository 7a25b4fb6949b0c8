"""The Lease that one trainer holds, on a real API server."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.cluster.conftest import Account, until
from tests.cluster.proxy import Proxy

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import LEASE, at
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
    second.confirm()


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


def test_changes_by_others_do_not_disturb_the_holder(api: Api, stack: ExitStack) -> None:
    held = stack.enter_context(lease(api, seconds=3))
    assert held.acquire()
    before = api.get(LEASE, NAME)["spec"]["renewTime"]
    api.patch(LEASE, NAME, {"metadata": {"labels": {"seen": "yes"}}})
    until(lambda: api.get(LEASE, NAME)["spec"]["renewTime"] != before, "renewed")
    held.confirm()
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
