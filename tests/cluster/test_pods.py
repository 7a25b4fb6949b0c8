"""What needs pods that run: forwarded ports and logs. Their image is a busybox."""

import hashlib
import http.client
import socket
import threading
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.conftest import until
from tests.cluster.installed import add_job, add_pod, install, labels, pod_spec
from tests.cluster.proxy import Proxy

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.forwarding import forwarded
from pilothouse.cluster.kinds import POD, Object, at, name_of
from pilothouse.cluster.logs import Wanted
from pilothouse.cluster.objects import is_ready, restarts
from pilothouse.cluster.release import find_release, pods_of
from pilothouse.cluster.scraping import scrape
from pilothouse.cluster.tailing import Tailing
from pilothouse.errors import NotFoundError, PilothouseError, PortClosedError

pytestmark = [pytest.mark.kubelet, pytest.mark.usefixtures("nodes")]

FIGURES = """# TYPE pilothouse_policy_epoch gauge
pilothouse_policy_epoch 3
pilothouse_policy_version 12
pilothouse_policy_waiting 5
pilothouse_policy_running 2
"""


def shell(script: str) -> tuple[str, ...]:
    """A pod's command: a script, in an image that has a busybox and nothing else."""
    return ("busybox", "sh", "-c", f"busybox --install -s /bin; mkdir /tmp; {script}")


def serving(content: str = FIGURES) -> tuple[str, ...]:
    """A pod's command: shows ``content`` as its metrics."""
    return shell(f"mkdir -p /tmp/w; echo '{content}' >/tmp/w/metrics; exec httpd -f -p 8080 -h /tmp/w")


def started(api: Api, name: str) -> Object:
    """Returns the pod when it is ready."""
    until(lambda: is_ready(api.get(POD, name)), f"{name} is ready")
    return api.get(POD, name)


def fetched(port: int, path: str = "/metrics") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def answering(api: Api, pod: Object) -> None:
    """Waits until the pod's server listens, which is later than Ready."""

    def answers() -> bool:
        try:
            with forwarded(api, pod, "http") as port:
                return bool(fetched(port))
        except (PilothouseError, OSError, http.client.HTTPException):
            return False

    until(answers, f"{name_of(pod)} answers")


def test_a_pods_port_is_reached_again_and_again_and_from_many_at_once(api: Api) -> None:
    script = """mkdir -p /tmp/w; cd /tmp/w; head -c 3000000 /dev/urandom >big
        sha256sum big | cut -d ' ' -f 1 >sum; exec httpd -f -p 8080 -h /tmp/w"""
    add_pod(api, "policy", "p", *shell(script))
    pod = started(api, "p")
    answering(api, pod)
    with forwarded(api, pod, "http") as port:
        digest = fetched(port, "/sum").decode().strip()
        found: list[str] = []

        def fetch() -> None:
            found.append(hashlib.sha256(fetched(port, "/big")).hexdigest())

        threads = [threading.Thread(target=fetch) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [digest] * 6


def test_a_port_where_nobody_listens_is_told_as_such(api: Api) -> None:
    add_pod(api, "policy", "p")
    pod = started(api, "p")
    found = scrape(api, [pod])["p"]
    assert isinstance(found, PortClosedError)
    assert "pod p does not answer on port 8080" in str(found)


def test_a_loop_that_waits_is_no_complaint_and_in_no_rollbacks_way(
    run: Run, api: Api, kubeconfig: Path
) -> None:
    install(api)
    add_pod(api, "trainer", "t")
    started(api, "t")
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    shown = run("cluster", "status", *where, "--json").json
    assert (shown["trainer"]["state"], shown["trainer"]["problem"]) == ("waiting", "")
    assert shown["pods"][0]["problem"] == ""
    assert "has no policy pods" in run("cluster", "rollback", *where).err


def test_a_pod_that_is_gone_or_has_no_such_port_is_told(api: Api) -> None:
    add_pod(api, "policy", "p")
    pod = started(api, "p")
    with pytest.raises(NotFoundError, match="no port named page"), forwarded(api, pod, "page"):
        pass
    api.delete(POD, "p")
    until(lambda: not api.list(POD).items, "the pod is gone")
    with pytest.raises(NotFoundError, match=r'"p" not found'), forwarded(api, pod, "http"):
        pass


def test_a_connection_to_the_api_that_breaks_ends_the_forwarded_ones(
    proxied: tuple[Api, Proxy], api: Api
) -> None:
    """It must not hang, which is what the Kubernetes client's own pump does."""
    mine, proxy = proxied
    slow = "#!/bin/sh\necho; while :; do echo tick; sleep 0.1; done"
    script = f"mkdir -p /tmp/w/cgi-bin; cd /tmp/w; echo fine >metrics; printf '{slow}' >cgi-bin/slow"
    add_pod(api, "policy", "p", *shell(f"{script}; chmod +x cgi-bin/slow; exec httpd -f -p 8080 -h /tmp/w"))
    pod = started(api, "p")
    answering(api, pod)
    with forwarded(mine, pod, "http") as port:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /cgi-bin/slow HTTP/1.0\r\n\r\n")
            received = b""
            while b"tick" not in received:
                received += connection.recv(4096)
            proxy.cut()
            while connection.recv(4096):
                pass
        assert fetched(port) == b"fine\n"  # the next one is a new one


def test_status_shows_what_the_pods_say(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    add_pod(api, "policy", "p", *serving())
    figures = "pilothouse_trainer_step 7\npilothouse_kl 0.25\npilothouse_reward_mean 1.5\n"
    add_pod(api, "trainer", "t", *serving(figures))
    for name in ("p", "t"):
        answering(api, started(api, name))
    ran = run("cluster", "status", "--kubeconfig", kubeconfig, "-n", api.namespace, "--json")
    policy, trainer = ran.json["pods"]
    assert (policy["weights"], policy["waiting"], policy["running"]) == ("3.12", 5, 2)
    assert trainer["problem"] == ""
    assert ran.json["trainer"]["step"] == 7
    assert ran.json["trainer"]["figures"] == {"reward": 1.5, "kl": 0.25}
    screen = run("cluster", "status", "--kubeconfig", kubeconfig, "-n", api.namespace).out
    assert "step 7" in screen
    assert "reward 1.5" in screen


def test_logs_of_several_pods_come_in_the_order_of_time(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    for name, offset in (("a", 0.0), ("b", 0.1)):
        steps = "; ".join(f"echo {name}{number}; sleep 0.4" for number in range(4))
        add_pod(api, "policy", name, *shell(f"sleep {offset}; {steps}"))
    until(lambda: all(at(pod, "status", "phase") == "Succeeded" for pod in api.list(POD).items), "both ended")
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    rows = run("cluster", "logs", *where, "--json").rows
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert {row["text"] for row in rows} == {f"{name}{number}" for name in "ab" for number in range(4)}
    plain = run("cluster", "logs", "a", *where, "--tail", 1).out
    assert plain == "a a3\n"
    assert run("cluster", "logs", "policy", *where).out.count("\n") == 8
    missing = run("cluster", "logs", "reward", *where)
    assert missing.status == Exit.FAILED
    assert "no pod, component or job 'reward' in release demo; there are policy" in missing.err


def test_logs_of_the_container_before_a_restart(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    spec = pod_spec("policy", *shell("echo start $(date +%s%N); sleep 1; exit 1"))
    spec["restartPolicy"] = "OnFailure"
    api.create(POD, {"metadata": {"name": "p", "labels": labels("policy")}, "spec": spec})
    until(lambda: restarts(api.get(POD, "p")), "a restart")
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    before = run("cluster", "logs", "p", *where, "--previous").out
    assert before.startswith("p start")
    assert run("cluster", "logs", "p", *where).out != before
    assert run("cluster", "logs", "p", *where, "--previous", "--follow").status == Exit.USAGE


def test_following_logs_loses_and_repeats_no_line_when_connections_break(
    proxied: tuple[Api, Proxy], api: Api
) -> None:
    mine, proxy = proxied
    install(api)
    counting = "for i in $(seq 60); do echo $i; sleep 0.1; done"
    add_pod(api, "policy", "p", *shell(counting))
    done = threading.Event()

    def cutting() -> None:
        while not done.wait(0.7):
            proxy.cut()

    thread = threading.Thread(target=cutting)
    thread.start()
    try:
        lines = [line.text for line in Tailing(mine, find_release(mine), "policy", Wanted()).lines()]
    finally:
        done.set()
        thread.join()
    assert lines == [str(number) for number in range(1, 61)]


def test_following_goes_on_with_the_pods_that_a_job_makes_anew(api: Api) -> None:
    """The first pod fails; its Job makes a second one."""
    install(api)
    add_job(api, "j", *shell("echo begun; sleep 1; exit 3"))
    found: list[tuple[str, str]] = []
    for line in Tailing(api, find_release(api), "j", Wanted()).lines():
        found.append((line.pod, line.text))
    assert len({pod for pod, _ in found}) == 3  # backoffLimit is 2
    assert [text for _, text in found] == ["begun"] * 3


def test_watch_tells_the_end_of_a_real_job(run: Run, api: Api, kubeconfig: Path) -> None:
    install(api)
    add_job(api, "j", *shell("sleep 2"))
    ran = run("cluster", "watch", "--kubeconfig", kubeconfig, "-n", api.namespace, "--job", "j")
    assert ran.status == Exit.OK, ran.err
    assert "trainer running" in ran.out
    assert "trainer finished" in ran.out


def test_a_stopped_jobs_pod_is_told_to_end_and_another_comes_with_resume(
    run: Run, api: Api, kubeconfig: Path
) -> None:
    install(api)
    add_job(api, "j", *shell("trap 'echo told; exit 130' TERM; echo begun; while :; do sleep 0.1; done"))
    release = find_release(api)
    first = until(lambda: [pod for pod in pods_of(api, release) if is_ready(pod)], "a pod runs")[0]
    where = ("--kubeconfig", kubeconfig, "-n", api.namespace)
    assert run("cluster", "stop", *where).status == Exit.OK
    until(lambda: not pods_of(api, release), "the pod is gone")
    time.sleep(1)
    assert not pods_of(api, release)
    assert run("cluster", "resume", *where).status == Exit.OK
    second = until(lambda: [pod for pod in pods_of(api, release) if is_ready(pod)], "another pod")[0]
    assert name_of(first) != name_of(second)


def test_figures_of_a_pod_that_shows_nonsense_are_an_error_of_that_pod_alone(api: Api) -> None:
    install(api)
    add_pod(api, "policy", "good", *serving())
    add_pod(api, "policy", "odd", *serving("<html>what is this"))
    pods = [started(api, name) for name in ("good", "odd")]
    for pod in pods:
        answering(api, pod)
    found = scrape(api, pods)
    assert not isinstance(found["good"], PilothouseError)
    assert isinstance(found["odd"], PilothouseError)
