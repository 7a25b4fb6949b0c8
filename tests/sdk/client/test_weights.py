import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.client import AsyncWeightsClient, PushResult, WeightsClient
from pilothouse.client.push_plan import plan_push
from pilothouse.errors import (
    CorruptChunkError,
    InvalidRequestError,
    NonFiniteWeightsError,
    PilothouseError,
    QueueFullError,
    UnavailableError,
)
from pilothouse.v1 import tensor_pb2, weights_pb2

Serve = Any
Staged = Any
Push = Callable[..., Any]

RANDOM = np.random.default_rng(0)
TENSORS: dict[str, Any] = {
    "b.weight": RANDOM.normal(size=(30, 40)).astype(np.float32),
    "a.bias": RANDOM.normal(size=7).astype(np.float16),
    "c.weight": RANDOM.normal(size=(9, 50)).astype(ml_dtypes.bfloat16).T,
}
BYTES = b"".join(TENSORS[name].tobytes() for name in sorted(TENSORS))


async def push_async(server: Any, **settings: Any) -> PushResult:
    async with AsyncWeightsClient(f"127.0.0.1:{server.port}") as client:
        return await client.push(TENSORS, run="r", epoch=2, version=5, **settings)


async def push_blocking(server: Any, **settings: Any) -> PushResult:
    def push() -> PushResult:
        with WeightsClient(f"127.0.0.1:{server.port}") as client:
            return client.push(TENSORS, run="r", epoch=2, version=5, **settings)

    return await asyncio.to_thread(push)


@pytest.fixture(params=[push_async, push_blocking])
def push(request: pytest.FixtureRequest) -> Push:
    found: Push = request.param
    return found


async def test_a_push_arrives_whole_with_digests_and_proof(serve: Serve, staged: Staged, push: Push) -> None:
    result = await push(
        await serve(staged.add), parent=(2, 4), probes=[[1, 2, 3], [4, 5]], kv_policy="recompute"
    )
    assert bytes(staged.staged) == BYTES
    begin = staged.begun[0]
    assert (begin.run, begin.epoch, begin.version) == ("r", 2, 5)
    assert (begin.parent_epoch, begin.parent_version) == (2, 4)
    entries = {entry.name: entry for entry in begin.manifest.entries}
    assert list(entries) == ["a.bias", "b.weight", "c.weight"]
    assert list(entries["c.weight"].shape) == [50, 9]
    assert entries["c.weight"].dtype == tensor_pb2.DATA_TYPE_BFLOAT16
    for name, entry in entries.items():
        assert entry.digest == blake3(TENSORS[name].tobytes()).digest()
    assert begin.manifest.total_size_bytes == len(BYTES) == result.uploaded_bytes
    assert staged.commits[0].kv_policy == weights_pb2.KV_POLICY_RECOMPUTE
    assert result.probe_logprobs.tolist() == [-2, -3, -5]
    assert (result.epoch, result.version, result.swap_seconds) == (2, 5, 0.25)
    assert result.digest == begin.manifest.digest.hex()
    assert staged.aborted == 0


@pytest.mark.parametrize("failure", [UnavailableError, QueueFullError, CorruptChunkError])
async def test_a_broken_upload_goes_on_from_the_last_byte_that_arrived(
    serve: Serve, staged: Staged, push: Push, failure: type[PilothouseError]
) -> None:
    staged.break_after, staged.failure = [2, 1, 0], failure
    await push(await serve(staged.add))
    assert bytes(staged.staged) == BYTES
    assert staged.offsets == [0, 2000, 3000, 3000]
    assert len(staged.begun) == 4
    assert len(staged.commits) == 1


async def test_a_server_that_lost_the_push_gets_it_from_the_start(
    serve: Serve, staged: Staged, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged.break_after = [2]
    begin = staged.BeginPush

    async def forgetful(request: Any, context: Any) -> Any:
        staged.staged.clear()
        return await begin(request, context)

    monkeypatch.setattr(staged, "BeginPush", forgetful)
    await push(await serve(staged.add))
    assert bytes(staged.staged) == BYTES


async def test_an_upload_without_progress_is_given_up_and_aborted(
    serve: Serve, staged: Staged, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.client.weights_codec._FIRST_PAUSE_SECONDS", 0.001)
    staged.break_after = [1] + [0] * 100
    with pytest.raises(UnavailableError, match="the stream broke"):
        await push(await serve(staged.add))
    assert staged.aborted == 1
    assert len(staged.offsets) == 7
    assert staged.commits == []


async def test_a_refused_commit_frees_the_push_and_tells_why(
    serve: Serve, staged: Staged, push: Push
) -> None:
    staged.refuse_commit = True
    with pytest.raises(NonFiniteWeightsError, match=r"NaN in a\.weight"):
        await push(await serve(staged.add))
    assert staged.aborted == 1
    assert len(staged.offsets) == 1


@pytest.mark.parametrize(
    "settings", [{"kv_policy": "bad"}, {"probes": [[0.5]]}, {"parent": (2**70, 1)}], ids=str
)
async def test_a_mistake_in_the_call_costs_no_upload(
    settings: dict[str, Any], serve: Serve, staged: Staged, push: Push
) -> None:
    with pytest.raises(InvalidRequestError):
        await push(await serve(staged.add), **settings)
    assert staged.begun == []


async def test_unchanged_tensors_send_no_bytes(serve: Serve, staged: Staged, push: Push) -> None:
    result = await push(await serve(staged.add), parent=(2, 4), unchanged={"b.weight"})
    assert bytes(staged.staged) == TENSORS["a.bias"].tobytes() + TENSORS["c.weight"].tobytes()
    entry = next(entry for entry in staged.manifest.entries if entry.name == "b.weight")
    assert (entry.encoding, entry.size_bytes) == (weights_pb2.WEIGHT_ENCODING_UNCHANGED, 0)
    assert entry.digest == blake3(TENSORS["b.weight"].tobytes()).digest() == result.digests["b.weight"]


async def test_a_push_without_any_change_uploads_nothing(serve: Serve, staged: Staged, push: Push) -> None:
    result = await push(await serve(staged.add), parent=(2, 4), unchanged=set(TENSORS))
    assert result.uploaded_bytes == 0
    assert staged.offsets == []
    assert len(staged.commits) == 1


async def test_a_rollback_is_tried_once(serve: Serve, staged: Staged) -> None:
    staged.failure = QueueFullError
    server = await serve(staged.add)
    async with AsyncWeightsClient(f"127.0.0.1:{server.port}") as client:
        with pytest.raises(QueueFullError):
            await client.rollback()
        assert await client.rollback("keep") == (1, 2)


def test_given_digests_are_not_computed_again() -> None:
    plan = plan_push(TENSORS, {"b.weight": b"d" * 32})
    assert plan.digests["b.weight"] == b"d" * 32


def test_a_stranger_among_the_unchanged_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"not pushed: z\.weight"):
        plan_push(TENSORS, {"z.weight"})


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(0, 250), st.integers(1, 60), st.randoms())
def test_chunks_from_any_offset_make_up_the_rest_of_the_upload(
    sizes: list[int], offset: int, chunk_bytes: int, random: Any
) -> None:
    arrays = {
        f"t{index}": np.frombuffer(random.randbytes(4 * size), "<i4") for index, size in enumerate(sizes)
    }
    whole = b"".join(array.tobytes() for array in arrays.values())
    position = min(offset, len(whole))
    received = b""
    for chunk in plan_push(arrays).chunks("p", position, chunk_bytes):
        assert chunk.offset == position
        assert 0 < len(chunk.data) <= chunk_bytes
        assert chunk.crc32 == zlib.crc32(chunk.data)
        received += chunk.data
        position += len(chunk.data)
    assert received == whole[min(offset, len(whole)) :]
    assert position == len(whole)


def test_the_plan_copies_nothing() -> None:
    array = np.zeros((64, 64), np.float32)
    [part] = plan_push({"a": array}).parts
    assert np.shares_memory(np.frombuffer(part, np.uint8), array)
