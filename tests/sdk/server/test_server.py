import asyncio
import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pilothouse.errors import ConfigError, DrainingError, UnavailableError, UnimplementedError
from pilothouse.local.ports import is_free
from pilothouse.server import Server, ServerConfig, listening
from pilothouse.status import from_rpc
from pilothouse.v1 import policy_pb2, policy_pb2_grpc

Serve = Any
POLICY = "pilothouse.v1.PolicyService"
REQUEST = policy_pb2.GetModelRequest()
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(channel: grpc.aio.Channel, service: str = "") -> int:
    answer: Any = await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service)
    )
    return int(answer.status)


def open_channel(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")


async def test_health_follows_set_serving_for_the_server_and_its_services(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add, POLICY, serving=False)
    async with open_channel(server) as channel:
        assert await health(channel) == await health(channel, POLICY) == NOT_SERVING
        await server.set_serving(True)
        assert await health(channel) == await health(channel, POLICY) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health(channel, "pilothouse.v1.Nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_is_answered_before_there_is_a_servicer_and_calls_come_through_after(
    policy: Any,
) -> None:
    server = Server(ServerConfig(reflection=True), "test")
    server.services(POLICY)
    async with listening([server]), open_channel(server) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        watch: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=POLICY))
        assert (await watch.read()).status == await health(channel) == NOT_SERVING
        for make in (lambda: policy.add(server.grpc), lambda: None):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetModel(REQUEST)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert type(from_rpc(caught.value)) is UnavailableError
            make()
        assert not policy.closed.is_set()
        ports = server.port, server.http_port
        await server.start()
        assert (server.port, server.http_port) == ports
        assert (await watch.read()).status == await health(channel) == SERVING
        assert (await stub.GetModel(REQUEST)).model == "scripted"
        watch.cancel()


async def test_ports_are_free_again_when_making_the_servicers_fails() -> None:
    server = Server(ServerConfig(), "test")
    with pytest.raises(UnavailableError, match="no model"):
        async with listening([server]):
            raise UnavailableError("no model")
    assert is_free(server.port)
    assert is_free(server.http_port)


async def test_watchers_hear_of_a_drain(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    async with open_channel(server) as channel:
        watch: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        stop = asyncio.create_task(server.stop())
        assert (await watch.read()).status == NOT_SERVING
        await stop


async def test_a_drain_finishes_what_runs_and_refuses_what_comes(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add)
    policy.work = policy.wait
    async with open_channel(server) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        running = stub.GetModel(REQUEST)
        await policy.entered.wait()
        stop = asyncio.create_task(server.stop())
        while await health(channel) == SERVING:
            await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModel(REQUEST)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert type(from_rpc(caught.value)) is DrainingError
        policy.go_on.set()
        assert (await running).model == "scripted"
        await stop


async def test_a_drain_cuts_off_what_takes_too_long(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add, drain_seconds=0.05)
    policy.work = policy.wait
    async with open_channel(server) as channel:
        running = policy_pb2_grpc.PolicyServiceStub(channel).GetModel(REQUEST)
        await policy.entered.wait()
        await server.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
        assert isinstance(from_rpc(caught.value), UnavailableError)
        await asyncio.wait_for(policy.closed.wait(), 30)


async def test_the_port_file_appears_with_serving_and_goes_with_the_server(
    serve: Serve, policy: Any, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "policy.json"
    server = await serve(policy.add, serving=False, port_file=file)
    assert not file.exists()
    await server.set_serving(True)
    assert json.loads(file.read_text()) == {
        "name": "test",
        "pid": os.getpid(),
        "host": "127.0.0.1",
        "port": server.port,
        "http_port": server.http_port,
    }
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    await server.stop()
    assert not file.exists()


async def test_the_port_file_of_a_successor_is_left_alone(serve: Serve, policy: Any, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    server = await serve(policy.add, port_file=file)
    file.write_text(json.dumps({"pid": -1}))
    await server.stop()
    assert file.exists()


@pytest.mark.parametrize("taken", ["port", "http_port"])
async def test_a_taken_port_is_told(serve: Serve, policy: Any, taken: str) -> None:
    first = await serve(policy.add)
    with pytest.raises(ConfigError, match="choose free ports"):
        await serve(policy.add, **{taken: getattr(first, taken)})


async def test_reflection_is_off_unless_asked_for(serve: Serve, policy: Any) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    async with open_channel(await serve(policy.add, POLICY, reflection=True)) as channel:
        call: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
        answer = await call.read()
    assert POLICY in {service.name for service in answer.list_services_response.service}
    async with open_channel(await serve(policy.add, POLICY)) as channel:
        # Nothing is asked: grpc.aio would lose a refusal that arrives while it writes.
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert type(from_rpc(caught.value)) is UnimplementedError


async def test_an_oversized_request_is_refused_and_the_server_serves_on(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add, max_message_bytes=2**16)
    async with open_channel(server) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        big = policy_pb2.GenerateRequest()
        big.texts.texts.append("x" * 2**17)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(big).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.GetModel(REQUEST)).model == "scripted"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
async def test_a_door_open_to_other_machines_must_be_asked_for(host: str) -> None:
    with pytest.raises(ConfigError, match="allow_insecure"):
        Server(ServerConfig(host=host), "test")
    Server(ServerConfig(host=host, allow_insecure=True), "test")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
async def test_loopback_needs_no_permission(host: str) -> None:
    Server(ServerConfig(host=host), "test")
