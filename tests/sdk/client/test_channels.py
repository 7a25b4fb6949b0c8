import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pilothouse.client import AsyncPolicyClient, Cancellation, PolicyClient, WeightsClient
from pilothouse.client.channels import options, service_config
from pilothouse.errors import (
    ConfigError,
    DrainingError,
    InvalidRequestError,
    PilothouseError,
    QueueFullError,
    UnavailableError,
)

Serve = Any
Echo = Any


def target(server: Any) -> str:
    return f"127.0.0.1:{server.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "failure", [QueueFullError("busy", retry_after_seconds=0.01), DrainingError("leaving")], ids=type
)
async def test_a_busy_or_leaving_server_is_asked_again(
    serve: Serve, echo: Echo, failure: PilothouseError
) -> None:
    echo.failures = [failure, failure]
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        assert (await client.model()).model == "echo"
    assert echo.calls == 3


async def test_a_refusal_is_final(serve: Serve, echo: Echo) -> None:
    echo.failures = [InvalidRequestError("n must be positive")]
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises(InvalidRequestError, match="n must be positive"):
            await client.model()
    assert echo.calls == 1


async def test_retries_end_and_the_servers_error_is_told(serve: Serve, echo: Echo) -> None:
    echo.failures = [QueueFullError("busy", retry_after_seconds=0.01)] * 9
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises(QueueFullError, match="busy") as caught:
            await client.model()
    assert caught.value.retry_after_seconds == 0.01
    assert echo.calls == 5


async def test_a_large_request_is_sent_again_too(serve: Serve, echo: Echo) -> None:
    echo.failures = [QueueFullError("busy", retry_after_seconds=0.01)]
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        await client.generate(["x" * 2**21], seeds=[1])
    assert echo.calls == 2


async def test_a_stream_that_has_begun_is_not_begun_again(
    serve: Serve, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = echo.Generate

    async def torn(request: Any, context: Any) -> Any:
        async for answer in whole(request, context):
            yield answer
            raise UnavailableError("lost")

    monkeypatch.setattr(echo, "Generate", torn)
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises(UnavailableError, match="lost"):
            await client.generate(["a", "b"], seeds=[1, 2])
    assert echo.calls == 1


async def test_nobody_at_the_address_is_told_with_the_address() -> None:
    port = free_port()
    async with AsyncPolicyClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}.*check the address"):
            await client.model()


async def test_a_client_finds_its_server_again_after_a_restart(serve: Serve, echo: Echo) -> None:
    first = await serve(echo.add)
    async with AsyncPolicyClient(target(first)) as client:
        assert (await client.model()).model == "echo"
        await first.stop()
        await serve(echo.add, port=first.port)
        await client.wait_ready(30)
        assert (await client.model()).model == "echo"


async def test_waiting_ends_when_the_server_serves(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add, serving=False)

    def blocking() -> None:
        with PolicyClient(target(server)) as client:
            client.wait_ready(30)

    async with AsyncPolicyClient(target(server)) as client:
        waits = asyncio.gather(client.wait_ready(30), asyncio.to_thread(blocking))
        await asyncio.sleep(0)
        await server.set_serving(True)
        await waits


@pytest.mark.parametrize("listening", [True, False])
async def test_waiting_in_vain_is_told(serve: Serve, echo: Echo, listening: bool) -> None:
    port = (await serve(echo.add, serving=False)).port if listening else free_port()

    def blocking() -> None:
        with PolicyClient(f"127.0.0.1:{port}") as client:
            client.wait_ready(0.2)

    async with AsyncPolicyClient(f"127.0.0.1:{port}") as client:
        for wait in (client.wait_ready(0.2), asyncio.to_thread(blocking)):
            with pytest.raises(UnavailableError, match=r"not ready within 0\.2 s"):
                await wait


def test_uploads_rollbacks_and_streams_are_never_repeated_by_the_channel() -> None:
    final, retried = service_config("localhost:1")["methodConfig"]
    assert "retryPolicy" not in final
    methods = [name["method"] for name in final["name"]]
    assert methods == [
        "UploadPush",
        "Rollback",
        "GetWeights",
        "FetchWeights",
        "Generate",
        "WatchMetrics",
        "Watch",
    ]
    assert retried["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]


SILENT_SERVER = """
import asyncio, sys, grpc
from pilothouse.v1 import policy_pb2_grpc

class Silent(policy_pb2_grpc.PolicyServiceServicer):
    async def Generate(self, request, context):
        print("called", flush=True)
        await asyncio.sleep(3600)
        yield

async def main():
    server = grpc.aio.server()
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Silent(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


@pytest.fixture
def silent() -> Iterator[tuple["subprocess.Popen[bytes]", str, IO[bytes]]]:
    """A server of the policy's Generate that never answers, its address, and what it says of calls."""
    server = subprocess.Popen([sys.executable, "-c", SILENT_SERVER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout as says:
        yield server, f"127.0.0.1:{int(says.readline())}", says
        server.kill()
        server.wait()


@pytest.mark.timeout(60)
def test_calls_are_cancelled_from_another_thread_and_begin_no_more(silent: Any) -> None:
    _, target, says = silent
    cancellation = Cancellation()
    with PolicyClient(target) as client, ThreadPoolExecutor() as threads:
        generate = partial(client.generate, ["hello"], cancellation=cancellation)
        calls = [threads.submit(generate) for _ in range(2)]
        for _ in calls:
            assert says.readline() == b"called\n"
        cancellation.cancel()
        for call in calls:
            with pytest.raises(CancelledError):
                call.result()
        with pytest.raises(CancelledError):
            generate()


def test_a_closed_client_says_so_whatever_is_asked_of_it() -> None:
    """gRPC ends the process when a method is first used on a closed channel."""
    client = WeightsClient("127.0.0.1:1")
    client.close()
    with PolicyClient("127.0.0.1:1") as policy:
        pass
    for ask in (
        client.state,
        client.rollback,
        partial(client.wait_ready, 1),
        policy.model,
        partial(policy.generate, ["a"]),
    ):
        with pytest.raises(InvalidRequestError, match=r"this client of .* is closed"):
            ask()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_stream_whose_server_is_killed_ends(blocking: bool, silent: Any) -> None:
    """With gRPC's own retries a blocking one never did, not even at its deadline."""
    server, target, says = silent

    def generate() -> None:
        with PolicyClient(target, timeout_seconds=30) as client:
            client.generate(["hello"])

    async def generate_in_loop() -> None:
        async with AsyncPolicyClient(target, timeout_seconds=30) as client:
            await client.generate(["hello"])

    call = asyncio.create_task(asyncio.to_thread(generate) if blocking else generate_in_loop())
    assert await asyncio.to_thread(says.readline) == b"called\n"
    server.kill()
    server.wait()
    with pytest.raises(UnavailableError):
        await call


NO_ADDRESSES = [
    "",
    "localhost",
    "localhost:",
    ":7001",
    "host:http",
    "127.0.0.1:99999",
    "http://host:7001",
    "::1:7001",
    "unixbox",
    "host:" + "9" * 5000,
]


@pytest.mark.parametrize("target", NO_ADDRESSES)
def test_what_is_no_address_is_refused_at_once(target: str) -> None:
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        PolicyClient(target)


@pytest.mark.parametrize(
    "target", ["host:1", "[::1]:7001", "dns:///name:7001", "ipv4:127.0.0.1:7001", "unix:/run/policy.sock"]
)
def test_every_form_of_address_is_taken(target: str) -> None:
    PolicyClient(target).close()


def test_calls_spread_over_replicas_behind_a_name() -> None:
    assert service_config("dns:///policy:8000")["loadBalancingConfig"] == [{"round_robin": {}}]
    assert "loadBalancingConfig" not in service_config("127.0.0.1:8000")


@pytest.mark.slow
def test_a_frozen_server_is_noticed(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "server" / "small_service.py"
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(program), "--set", f"small.server.port={port}"], stderr=subprocess.DEVNULL
    )
    try:
        with PolicyClient(f"127.0.0.1:{port}", timeout_seconds=120) as client:
            client.wait_ready(60)
            assert client.model().model == "small"
            process.send_signal(signal.SIGSTOP)
            _expect(UnavailableError, client.model)
            process.send_signal(signal.SIGCONT)
            client.wait_ready(60)
            assert client.model().model == "small"
    finally:
        process.kill()
        process.wait()


def _expect(kind: type[PilothouseError], call: Callable[[], object]) -> None:
    with pytest.raises(kind):
        call()


class NameServer:
    """Answers every name with one address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.authority = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self) -> None:
        while True:
            query, caller = self.socket.recvfrom(512)
            question = query[12 : query.index(b"\0", 12) + 5]
            known = question[-4:] == b"\0\x01\0\x01"  # an IPv4 address of the Internet
            record = b"\xc0\x0c\0\x01\0\x01" + bytes(4) + b"\0\x04" + socket.inet_aton(self.address)
            head = query[:2] + b"\x81\x80\0\x01" + (b"\0\x01" if known else b"\0\0") + bytes(4)
            self.socket.sendto(head + question + (record if known else b""), caller)


@pytest.mark.timeout(60)
def test_a_service_that_came_back_at_another_address_is_found_there_soon() -> None:
    """gRPC asks DNS again after half a minute by default."""

    def serving(host: str, port: int) -> tuple[grpc.Server, int]:
        server = grpc.server(ThreadPoolExecutor(2))
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port(f"{host}:{port}")
        server.start()
        return server, port

    names = NameServer("127.0.0.1")
    first, port = serving("127.0.0.1", 0)
    settings = options(f"dns:///policy.test:{port}")
    with grpc.insecure_channel(f"dns://{names.authority}/policy.test:{port}", options=settings) as channel:
        check = partial(health_pb2_grpc.HealthStub(channel).Check, health_pb2.HealthCheckRequest())
        assert check(timeout=20, wait_for_ready=True).status == health_pb2.HealthCheckResponse.SERVING
        second, _ = serving("127.0.0.2", port)
        names.address = "127.0.0.2"
        first.stop(None).wait()
        assert check(timeout=20, wait_for_ready=True).status == health_pb2.HealthCheckResponse.SERVING
        second.stop(None)
