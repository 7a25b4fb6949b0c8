import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.control_plane import write_kubeconfig
from tests.cluster.fake_api import Answer, Query, fake_api, listing
from tests.cluster.installed import CONFIG, labels, metadata

from pilothouse.cli.exits import Exit
from pilothouse.cluster.logs import parsed
from pilothouse.cluster.tailing import _Place


def pod(container: str) -> dict[str, object]:
    known = {"uid": container, "resourceVersion": "1"}
    return {
        "metadata": {"name": f"{container}-pod", "labels": labels("policy")} | known,
        "spec": {"containers": [{"name": container}]},
    }


def interrupt() -> str:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)
    return ""


@contextmanager
def released(
    tmp_path: Path, logs: dict[str, object], watched: Callable[[], str] = str
) -> Iterator[list[object]]:
    """Yields the options of a cluster with a release.

    Its containers have these logs, text or a call; ``watched`` says what a watch sees.
    """

    def answer(query: Query) -> Answer:
        if (container := query.get("container")) is not None:
            log = logs[container]
            if callable(log):
                log = log()
            return (500, b"the node is gone") if log is None else (200, str(log).encode())
        if "watch" in query:
            return 200, watched().encode()
        if "part-of" in query.get("labelSelector", ""):
            return listing(1, {"metadata": metadata("demo"), "data": {"pilothouse.toml": CONFIG}})
        return listing(1, *map(pod, logs))

    with fake_api(answer) as api:
        authority = tmp_path / "ca.crt"
        authority.touch()
        file = write_kubeconfig(tmp_path / "config", server=api.server, authority=authority, user={})
        yield ["--kubeconfig", file]


def test_a_log_that_is_out_of_reach_is_told_and_the_others_are_shown(run: Run, tmp_path: Path) -> None:
    with released(tmp_path, {"a": None, "b": "2026-01-01T00:00:00Z fine\n"}) as where:
        ran = run("cluster", "logs", *where)
    assert ran.status == Exit.UNAVAILABLE
    assert ran.out == "b-pod fine\n"
    assert ran.err.startswith("log of a-pod, a: ")


def test_following_what_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    with released(tmp_path, {"a": ""}, watched=interrupt) as where:
        ran = run("cluster", "logs", "--follow", "polcy", *where)
    assert ran.status == Exit.INTERRUPTED
    assert "no pod, component or job 'polcy' in release demo; there are policy" in ran.err


def test_ctrl_c_ends_logs_as_interrupted(run: Run, tmp_path: Path) -> None:
    with released(tmp_path, {"a": interrupt}) as where:
        assert run("cluster", "logs", *where).status == Exit.INTERRUPTED


@pytest.mark.parametrize(
    ("line", "time", "text"),
    [
        (b"2026-01-31T12:00:00.5Z a b", "2026-01-31T12:00:00.500000000Z", "a b"),
        (b"2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000000Z", ""),
        (b"2026-01-31T01:00:00.123456789+02:00 a", "2026-01-30T23:00:00.123456789Z", "a"),
        (b"unable to retrieve container logs for x", "", "unable to retrieve container logs for x"),
    ],
)
def test_a_line_is_its_time_in_utc_and_its_text(line: bytes, time: str, text: str) -> None:
    found = parsed(line, "p", "c")
    assert (found.time, found.text) == (time, text)


def test_a_line_without_a_time_is_told_once_and_leaves_the_place_alone() -> None:
    place = _Place()
    lines = [
        b"2026-01-01T00:00:01Z a",
        b"unable to retrieve",
        b"unable to retrieve",
        b"2026-01-01T00:00:02Z b",
    ]
    assert [place.is_new(parsed(line, "p", "c")) for line in lines] == [True, True, False, True]
    assert place.again() == "2026-01-01T00:00:02Z"
