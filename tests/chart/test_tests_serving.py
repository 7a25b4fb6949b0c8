"""templates/tests/serving.yaml: what `helm test` runs."""

import ast
import functools
import http.server
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from .rendering import CHART, FULL_NAME, NAMESPACE, Renderer


def test_it_calls_every_service_that_is_there(render: Renderer) -> None:
    host = f"{FULL_NAME}-policy.{NAMESPACE}.svc"
    services = render().one("Pod", "test")["spec"]["containers"][0]["args"][1:]
    assert services[0] == f"policy=dns:///{host}:50051={host}:8080"
    assert [service.split("=")[0] for service in services] == ["policy", "reward", "reference", "feedback"]
    (only,) = render("one-service").one("Pod", "test")["spec"]["containers"][0]["args"][1:]
    assert only.startswith("policy=")


def test_it_runs_the_program_in_files(render: Renderer) -> None:
    program = render().one("Pod", "test")["spec"]["containers"][0]["args"][0]
    assert program.rstrip() == (CHART / "files/check.py").read_text().rstrip()
    ast.parse(program)


def test_it_has_a_clients_certificate(render: Renderer) -> None:
    (config, _) = render().one("Pod", "test")["spec"]["volumes"]
    (secret,) = [source["secret"] for source in config["projected"]["sources"] if "secret" in source]
    assert secret["name"] == f"{FULL_NAME}-client-tls"


def test_it_leaves_nothing_when_it_succeeds(render: Renderer) -> None:
    annotations = render().one("Pod", "test")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "test"
    assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
        "before-hook-creation",
        "hook-succeeded",
    }


@functools.cache
def program() -> ModuleType:
    specification = importlib.util.spec_from_file_location("check", CHART / "files/check.py")
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    return found


Answering = Callable[..., str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """``answering(503, 200)``: the address of a server that says these in turn, the last for ever."""
    servers: list[http.server.HTTPServer] = []

    def start(*statuses: int) -> str:
        coming = list(statuses)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(coming.pop(0) if len(coming) > 1 else coming[0])
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_waits_for_services_that_still_load_and_says_so(
    answering: Answering, capsys: pytest.CaptureFixture[str]
) -> None:
    address = answering(503, 503, 503, 200)
    program().wait_ready("policy", address, time.monotonic() + 60, pause_seconds=0.01)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("policy: not ready yet, HTTP Error 503")
    assert first.endswith(" s left")
    assert last == "policy: /readyz 200"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-service.invalid:8080", ""])
def test_it_waits_no_longer_than_it_may(
    answering: Answering, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    with pytest.raises(SystemExit, match=r"reward: still not ready, .*; see the log of its pod"):
        program().wait_ready("reward", address or answering(503), time.monotonic() + 0.2, pause_seconds=0.05)
    assert "reward: not ready yet" in capsys.readouterr().out
