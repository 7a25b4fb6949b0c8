from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.installed import add_job, add_lease, add_pod, install, set_job, set_ready
from tests.cluster.proxy import Proxy

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.following import follow, news
from pilothouse.cluster.kinds import JOB, POD
from pilothouse.cluster.picture import Picture
from pilothouse.cluster.release import find_release


def test_every_change_makes_a_new_picture_over_broken_connections_too(
    proxied: tuple[Api, Proxy], api: Api
) -> None:
    mine, proxy = proxied
    install(api)
    add_pod(api, "policy", "p", ready=False)
    with follow(mine, find_release(mine), None, every_seconds=60) as pictures:

        def next_with(holds: Callable[[Picture], bool]) -> Picture:
            return next(picture for picture in pictures if holds(picture))

        assert [pod.state for pod in next(pictures).pods] == ["Running"]
        set_ready(api, "p", ready=True)
        next_with(lambda picture: picture.pods[0].ready)
        proxy.cut()
        add_job(api, "a-job")
        next_with(lambda picture: picture.jobs == {"a-job": "pending"})
        proxy.cut()
        add_lease(api, "somebody")
        found = next_with(lambda picture: picture.lease is not None)
        assert found.lease
        assert found.lease.holder == "somebody"
        api.delete(POD, "p")
        next_with(lambda picture: not picture.pods)


def test_the_news_are_what_has_become_different(api: Api) -> None:
    install(api)
    add_pod(api, "policy", "p", ready=False)
    with follow(api, find_release(api), None, every_seconds=60) as pictures:
        first = next(pictures)
        assert news(None, first) == ["pod p Running"]
        assert news(first, first) == []
        set_ready(api, "p", ready=False, reason="CrashLoopBackOff")
        second = next(found for found in pictures if found.pods[0].state != "Running")
        assert news(first, second) == ["pod p CrashLoopBackOff: told: CrashLoopBackOff"]
        api.delete(POD, "p")
        add_job(api, "j")
        set_job(api, "j", active=1)
        third = next(found for found in pictures if not found.pods and "running" in found.jobs.values())
        assert news(second, third) == ["pod p gone", "trainer running"]


@pytest.mark.parametrize(("condition", "status"), [("Complete", Exit.OK), ("Failed", Exit.FAILED)])
def test_watch_ends_with_the_outcome_of_the_job(
    run: Run, api: Api, kubeconfig: Path, condition: str, status: Exit
) -> None:
    install(api)
    add_job(api, "j")
    set_job(api, "j", condition=condition, message="why")
    ran = run("cluster", "watch", "--kubeconfig", kubeconfig, "-n", api.namespace)
    assert ran.status == status, ran.err
    assert f"trainer {'finished' if status == Exit.OK else 'failed'}" in ran.out


def test_watch_waits_for_the_job_that_is_named(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    for name in ("early", "late"):
        add_job(api, name)
    set_job(api, "early", condition="Complete")
    set_job(api, "late", condition="Failed")
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    assert run("cluster", "watch", *where, "--job", "early").status == Exit.OK
    assert run("cluster", "watch", *where, "--job", "late", "--json").rows[-1]["jobs"]["late"] == "failed"
    gone = run("cluster", "watch", *where, "--job", "never")
    assert gone.status == Exit.FAILED
    assert "job never is not there" in gone.err


def test_a_job_that_is_stopped_ends_the_watch_as_interrupted(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    add_job(api, "j", parallelism=0)
    assert run("cluster", "watch", "--kubeconfig", kubeconfig, "-n", api.namespace).status == Exit.INTERRUPTED
    api.delete(JOB, "j")
