import asyncio
from contextlib import suppress
from typing import Any

import pytest

Serve = Any


async def ask(port: int, request: bytes) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_liveness_does_not_depend_on_readiness(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add, serving=False)
    assert await ask(server.http_port, get("/healthz")) == (200, "ok\n")
    assert await ask(server.http_port, get("/readyz")) == (503, "not ready\n")
    await server.set_serving(True)
    assert await ask(server.http_port, get("/readyz?verbose=1")) == (200, "ready\n")


async def test_metrics_name_what_prometheus_looks_for(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    status, body = await ask(server.http_port, get("/metrics"))
    assert status == 200
    for name in [
        "pilothouse_grpc_server_call_started_total",
        "pilothouse_grpc_server_call_duration_seconds",
        'pilothouse_grpc_server_calls_running{service="test"} 0.0',
        'pilothouse_grpc_server_calls_waiting{service="test"} 0.0',
        "pilothouse_shed_total",
    ]:
        assert name in body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/"), 404),
        (get("/metrics/../../etc/passwd"), 404),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz SPDY/9\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    ],
)
async def test_what_is_not_offered_is_refused(
    serve: Serve, policy: Any, request_bytes: bytes, status: int
) -> None:
    server = await serve(policy.add)
    assert (await ask(server.http_port, request_bytes))[0] == status


async def test_head_has_no_body(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    assert await ask(server.http_port, b"HEAD /healthz HTTP/1.1\r\n\r\n") == (200, "")


async def test_a_caller_who_leaves_early_does_no_harm(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    writer.write(b"GET /hea")
    writer.close()
    await writer.wait_closed()
    assert (await ask(server.http_port, get("/healthz")))[0] == 200


async def test_idle_connections_never_keep_a_probe_from_its_answer(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    idle = [await asyncio.open_connection("127.0.0.1", server.http_port) for _ in range(200)]
    assert await ask(server.http_port, get("/healthz")) == (200, "ok\n")
    newest_reader, newest = idle[-1]
    newest.write(get("/readyz"))
    assert (await newest_reader.read()).startswith(b"HTTP/1.1 200"), "only the oldest had to go"
    for _, writer in idle:
        writer.close()


async def test_a_stopping_server_does_not_wait_for_idle_connections(
    serve: Serve, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.server.http._MAX_REQUEST_SECONDS", 1000.0)
    server = await serve(policy.add)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    assert await ask(server.http_port, get("/healthz")) == (200, "ok\n")  # so the idle one is accepted too
    await server.abort()
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_the_port_can_be_left_out(serve: Serve, policy: Any) -> None:
    assert (await serve(policy.add, http_port=-1)).http_port == -1
