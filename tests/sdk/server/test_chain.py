import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from pilothouse import errors
from pilothouse.server import Server
from pilothouse.server.chain import Chain
from pilothouse.server.limits import Limiter
from pilothouse.status import from_rpc
from pilothouse.v1 import policy_pb2, policy_pb2_grpc

Serve = Any
GET_MODEL = "/pilothouse.v1.PolicyService/GetModel"
REQUEST = policy_pb2.GetModelRequest()


@asynccontextmanager
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


async def failure(call: Any) -> errors.PilothouseError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


def fail_with(error: Exception) -> Callable[[], Any]:
    async def work() -> None:
        raise error

    return work


def calls(code: str, method: str = GET_MODEL) -> float:
    labels = {"method": method, "code": code}
    return REGISTRY.get_sample_value("pilothouse_grpc_server_call_duration_seconds_count", labels) or 0.0


async def counted(code: str, expected: float, method: str = GET_MODEL) -> None:
    """Waits for the count: a refused caller has its answer just before the server counts it."""
    async with asyncio.timeout(30):
        while calls(code, method) != expected:
            await asyncio.sleep(0)


async def test_a_call_passes_and_is_counted(serve: Serve, policy: Any) -> None:
    before = calls("OK")
    async with channel(await serve(policy.add)) as opened:
        answer = await policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST)
    assert answer.model == "scripted"
    assert calls("OK") == before + 1


async def test_an_error_raised_on_purpose_arrives_as_itself(serve: Serve, policy: Any) -> None:
    policy.work = fail_with(errors.QueueFullError("come back later", retry_after_seconds=0.25))
    before = calls("RESOURCE_EXHAUSTED")
    async with channel(await serve(policy.add)) as opened:
        error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))
    assert type(error) is errors.QueueFullError
    assert str(error) == "come back later"
    assert error.retry_after_seconds == 0.25
    await counted("RESOURCE_EXHAUSTED", before + 1)


async def test_an_error_out_of_a_task_group_arrives_as_itself(serve: Serve, policy: Any) -> None:
    policy.work = fail_with(ExceptionGroup("unhandled", [errors.NotFoundError("no such push")]))
    async with channel(await serve(policy.add)) as opened:
        error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))
    assert type(error) is errors.NotFoundError


@pytest.mark.parametrize("surprise", [KeyError("secret"), ExceptionGroup("secret", [ValueError("secret")])])
async def test_what_nobody_foresaw_is_logged_and_told_by_its_id_only(
    serve: Serve, policy: Any, surprise: Exception
) -> None:
    policy.work = fail_with(surprise)
    async with channel(await serve(policy.add)) as opened:
        with capture_logs() as logs:
            error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))
    assert type(error) is errors.InternalError
    assert "secret" not in str(error)
    assert "Error" not in str(error)
    [line] = [line for line in logs if line["event"] == "call failed"]
    assert line["id"] in str(error)
    assert line["method"] == GET_MODEL
    assert line["exc_info"]


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\n\x03\xff\xfe\xfd"], ids=["broken", "not UTF-8"])
@pytest.mark.parametrize("method", ["Generate", "Logprobs"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(
    serve: Serve, policy: Any, method: str, data: bytes
) -> None:
    async with channel(await serve(policy.add)) as opened:
        error = await failure(opened.stream_unary(f"/pilothouse.v1.PolicyService/{method}")(iter([data])))
    assert type(error) is errors.InvalidRequestError
    assert "not the message of this method" in str(error)


async def test_noise_is_never_an_internal_error(serve: Serve, policy: Any) -> None:
    noise = random.Random(0)
    refusals = set()
    policy.go_on.set()
    async with channel(await serve(policy.add)) as opened:
        for method in ["PolicyService/Generate", "PolicyService/Logprobs", "WeightsService/UploadPush"]:
            send = opened.stream_stream(f"/pilothouse.v1.{method}")
            for _ in range(100):
                call = send(iter([noise.randbytes(noise.randrange(64))]))
                try:
                    async for _answer in call:
                        pass
                except grpc.aio.AioRpcError as error:
                    refusals.add(type(from_rpc(error)))
    assert refusals == {errors.InvalidRequestError}


async def test_a_stream_that_breaks_off_into_nonsense_is_the_callers_mistake(
    serve: Serve, policy: Any
) -> None:
    async with channel(await serve(policy.add)) as opened:
        upload = opened.stream_unary("/pilothouse.v1.WeightsService/UploadPush")
        error = await failure(upload(iter([b"", b"", b"\xff\xff"])))
    assert type(error) is errors.InvalidRequestError


async def test_a_method_that_the_server_lacks_is_told_by_name_but_makes_no_label(
    serve: Serve, policy: Any
) -> None:
    before = calls("UNIMPLEMENTED", "other")
    async with channel(await serve(policy.add)) as opened:
        error = await failure(opened.unary_unary("/pilothouse.v1.PolicyService/Guess")(b""))
    assert type(error) is errors.UnimplementedError
    assert "Guess" in str(error)
    await counted("UNIMPLEMENTED", before + 1, "other")


async def test_a_call_without_deadline_ends_at_the_servers_limit(serve: Serve, policy: Any) -> None:
    policy.work = policy.wait
    async with channel(await serve(policy.add, max_deadline_seconds=0.1)) as opened:
        error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))
    assert type(error) is errors.DeadlineExceededError
    assert "limit of 0.1 s" in str(error)
    assert policy.closed.is_set()


async def test_a_timeout_inside_the_service_is_not_mistaken_for_the_deadline(
    serve: Serve, policy: Any
) -> None:
    policy.work = fail_with(TimeoutError())
    async with channel(await serve(policy.add)) as opened:
        error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))
    assert type(error) is errors.InternalError


async def test_the_callers_deadline_stops_the_work(serve: Serve, policy: Any) -> None:
    policy.work = policy.wait
    async with channel(await serve(policy.add)) as opened:
        error = await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST, timeout=0.1))
        await asyncio.wait_for(policy.closed.wait(), 30)
    assert type(error) is errors.DeadlineExceededError


@pytest.mark.parametrize("chunks", [1, 100_000], ids=["while it works", "while it writes"])
async def test_a_caller_who_leaves_a_stream_frees_it_at_once(serve: Serve, policy: Any, chunks: int) -> None:
    policy.chunks, policy.chunk_bytes = chunks, 100_000
    async with channel(await serve(policy.add)) as opened:
        call = policy_pb2_grpc.PolicyServiceStub(opened).Generate(policy_pb2.GenerateRequest())
        await call.read()
        call.cancel()
        await asyncio.wait_for(policy.closed.wait(), 30)


async def test_a_reader_who_takes_nothing_is_let_go(serve: Serve, policy: Any) -> None:
    policy.chunks, policy.chunk_bytes = 1_000, 100_000
    async with channel(await serve(policy.add, write_idle_seconds=0.2)) as opened:
        call = policy_pb2_grpc.PolicyServiceStub(opened).Generate(policy_pb2.GenerateRequest())
        await asyncio.wait_for(policy.closed.wait(), 30)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
    assert "took nothing off the stream" in str(from_rpc(caught.value))


async def test_health_answers_when_the_server_is_full(serve: Serve, policy: Any) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    policy.work = policy.wait
    server = await serve(policy.add, max_concurrent_calls=1, max_waiting_calls=0)
    async with channel(server) as opened:
        running = policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST)
        await policy.entered.wait()
        assert type(await failure(policy_pb2_grpc.PolicyServiceStub(opened).GetModel(REQUEST))) is (
            errors.QueueFullError
        )
        answer = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        policy.go_on.set()
        await running


async def test_a_thousand_calls_at_once_get_an_answer_or_a_hint(serve: Serve, policy: Any) -> None:
    server = await serve(policy.add, max_concurrent_calls=4, max_waiting_calls=100)
    async with channel(server) as opened:
        stub = policy_pb2_grpc.PolicyServiceStub(opened)

        async def call() -> errors.PilothouseError | None:
            try:
                await stub.GetModel(REQUEST)
            except grpc.aio.AioRpcError as error:
                return from_rpc(error)
            return None

        outcomes = await asyncio.gather(*(call() for _ in range(1000)))
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(type(error) is errors.QueueFullError and error.retry_after_seconds for error in refused)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="asyncio")


class Refused:
    """The handle on a call that is refused."""

    told: grpc.StatusCode | None = None

    def code(self) -> grpc.StatusCode | None:
        return self.told

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        self.told = code
        raise grpc.aio.AbortError


@pytest.mark.parametrize("loading", [True, False])
async def test_a_call_that_met_a_loading_server_is_not_told_that_its_method_is_unknown(loading: bool) -> None:
    """The servicer may be added between the search for it and the answer that it was not there."""
    limiter = Limiter("early", 1, 1)
    chain = Chain(limiter, max_deadline_seconds=60, write_idle_seconds=60)
    if loading:
        limiter.hold()

    async def nobody(_: object) -> None:
        return None

    handler: Any = await chain.intercept_service(nobody, SimpleNamespace(method=GET_MODEL))  # type: ignore[arg-type]
    limiter.release()
    call = Refused()
    with pytest.raises(grpc.aio.AbortError):
        await handler.stream_unary(None, call)
    assert call.told is (grpc.StatusCode.UNAVAILABLE if loading else grpc.StatusCode.UNIMPLEMENTED)
