"""Replicas that start late, or were cut off, and come to serve what their peers serve."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pilothouse.errors import ConfigError
from pilothouse.models.load import save_causal_lm
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import tiny_model
from pilothouse.policy.build import WeightBuild
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.peers import Peer, Peers
from pilothouse.published import FILE, Published
from pilothouse.v1 import policy_pb2, weights_pb2

from .fake_peer import fake_peer
from .pushing import as_bfloat16, begin_request, chunks, payload, stream
from .served import Service, reason_of, serving

FETCH = weights_pb2.FetchWeightsRequest()


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Returns the tiny model's parameters."""
    named = tiny_model(seed=seed).named_parameters()
    return {name: tensor.detach().numpy().copy() for name, tensor in named}


def weights_target(service: Service) -> str:
    return f"127.0.0.1:{service.servers[1].port}"


@asynccontextmanager
async def late(*peers: str, **catch_up: Any) -> AsyncIterator[Service]:
    """A replica that knows its peers."""
    async with serving(catch_up={"peers": peers, "check_seconds": 0.05, **catch_up}) as service:
        yield service


async def eventually(service: Service, version: tuple[int, int]) -> None:
    async with asyncio.timeout(20):
        while await current(service) != version:
            await asyncio.sleep(0.02)


async def current(service: Service) -> tuple[int, int]:
    """What serves, also while the replica takes no calls."""
    state = await service.weights.GetWeights(weights_pb2.GetWeightsRequest())
    return state.epoch, state.version


async def digest(service: Service) -> str:
    return (await service.policy.GetModel(policy_pb2.GetModelRequest())).digest


async def test_a_late_replica_serves_what_its_peer_serves() -> None:
    async with serving() as first:
        await first.push(arrays(3), epoch=2, version=7)
        async with late(weights_target(first)) as second:
            assert await second.version() == (2, 7)
            assert await digest(second) == await digest(first)
            one = await first.generate(["the film was"], seeds=[5], max_new_tokens=6)
            two = await second.generate(["the film was"], seeds=[5], max_new_tokens=6)
            assert [entry.tokens for entry in one] == [entry.tokens for entry in two]
            assert [entry.logprobs for entry in one] == [entry.logprobs for entry in two]


async def test_a_late_replica_takes_the_newest_of_several() -> None:
    async with serving() as old, serving() as new:
        await old.push(arrays(1), epoch=1, version=9)
        await new.push(arrays(2), epoch=2, version=1)
        async with late(weights_target(old), weights_target(new), "127.0.0.1:1") as third:
            assert await third.version() == (2, 1)
            assert await digest(third) == await digest(new)


async def test_a_push_may_build_on_weights_that_came_from_a_peer() -> None:
    async with serving(dtype="bfloat16") as first:
        pushed = arrays(3)  # float32, which this policy serves as bfloat16: other bytes than were pushed
        await first.push(pushed, epoch=1, version=1)
        async with serving(dtype="bfloat16", catch_up={"peers": [weights_target(first)]}) as second:
            kept = tuple(sorted(pushed)[1:])
            answer = await second.push(pushed, epoch=1, version=2, parent=(1, 1), unchanged=kept)
            assert (answer.epoch, answer.version) == (1, 2)


async def test_a_trainer_that_is_fenced_at_a_peer_is_fenced_at_a_late_replica_too() -> None:
    async with serving() as first:
        await first.push(arrays(1), epoch=1, version=1)
        await first.weights.BeginPush(begin_request(arrays(2), epoch=5, version=1))
        await first.weights.AbortPush(weights_pb2.AbortPushRequest(push_id=await open_push(first)))
        async with late(weights_target(first)) as second:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second.push(arrays(4), epoch=3, version=1)
            assert reason_of(refused.value) == "FENCED"


async def open_push(service: Service) -> str:
    begun = await service.weights.BeginPush(begin_request(arrays(2), epoch=5, version=1))
    return begun.push_id


async def test_a_replica_is_not_ready_while_a_push_is_under_way() -> None:
    async with serving() as first, fake_peer() as other:
        await first.push(arrays(1), epoch=1, version=1)
        begun = await first.weights.BeginPush(begin_request(arrays(2), epoch=1, version=2))
        data = payload(arrays(2))
        await first.weights.UploadPush(stream(chunks(begun.push_id, data)))
        starting = asyncio.create_task(version_when_ready(weights_target(first), other.target))
        await other.rounds(5)  # in one of them it copies version 1
        assert not starting.done()
        await first.weights.CommitPush(weights_pb2.CommitPushRequest(push_id=begun.push_id))
        assert await starting == (1, 2)


async def test_a_replica_is_not_ready_with_weights_that_were_replaced_while_it_looked() -> None:
    """By a trainer that had asked everybody just before this one answered, and so does not push to it."""
    async with serving() as first, fake_peer() as other:
        other.meanwhile = partial(first.push, arrays(1), epoch=1, version=1)
        assert await version_when_ready(weights_target(first), other.target) == (1, 1)


async def test_a_replica_that_missed_a_push_takes_no_calls_until_it_has_it() -> None:
    async with serving() as first, late(weights_target(first)) as second:
        assert await second.version() == (0, 0)
        await first.push(arrays(1), epoch=1, version=1)
        await eventually(second, (1, 1))
        assert await version_once_it_answers(second) == (1, 1)


async def test_a_replica_for_whose_copy_memory_was_short_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare, made = WeightBuild.__init__, list[WeightBuild]()

    def short(self: WeightBuild, *given: Any) -> None:
        made.append(self)
        if len(made) == 2:  # the first is that of the push
            raise MemoryError
        prepare(self, *given)

    async with serving() as first, late(weights_target(first)) as second:
        monkeypatch.setattr(WeightBuild, "__init__", short)
        await first.push(arrays(1), epoch=1, version=1)
        await eventually(second, (1, 1))
        assert await version_once_it_answers(second) == (1, 1)
        assert len(made) == 3


async def test_a_round_that_fails_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as first, late(weights_target(first)) as second:
        ask, failed = Peers.ask, asyncio.Event()

        async def failing(self: Peers) -> list[Peer]:
            if failed.is_set():
                return await ask(self)
            failed.set()
            raise ConfigError("the certificate has expired; renew it")

        monkeypatch.setattr(Peers, "ask", failing)
        await failed.wait()
        await first.push(arrays(1), epoch=1, version=1)
        await eventually(second, (1, 1))
        assert await version_once_it_answers(second) == (1, 1)


async def version_once_it_answers(service: Service) -> tuple[int, int]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await service.version()
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.02)


async def test_a_fetch_sends_nothing_to_who_has_it_already() -> None:
    async with serving() as first:
        await first.push(arrays(1), epoch=1, version=1)
        request = weights_pb2.FetchWeightsRequest(above_epoch=1, above_version=1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await first.weights.FetchWeights(request).read()
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_fetch_is_of_one_version_whatever_is_committed_meanwhile() -> None:
    async with serving() as first:
        await first.push(as_bfloat16(arrays(1)), epoch=1, version=1)
        data, head = b"", None
        async for message in first.weights.FetchWeights(FETCH):
            if message.HasField("weights"):
                head = message.weights
                await first.push(arrays(2), epoch=1, version=2)
            else:
                assert message.chunk.offset == len(data)
                data += message.chunk.data
        assert head is not None
        assert (head.epoch, head.version) == (1, 1)
        assert len(data) == head.manifest.total_size_bytes
        rounded = {name: array.astype(np.float32) for name, array in as_bfloat16(arrays(1)).items()}
        assert data == payload(rounded)


async def roll_back(service: Service) -> tuple[int, int]:
    back = await service.weights.Rollback(weights_pb2.RollbackRequest())
    return back.epoch, back.version


async def test_weights_that_were_taken_back_are_not_copied_from_who_still_serves_them() -> None:
    async with serving() as missed, fake_peer() as other, late(weights_target(missed), other.target) as back:
        for version in (1, 2):
            for service in (back, missed):  # in this order: the one copies from the other
                await service.push(arrays(version), epoch=1, version=version)
        assert await roll_back(back) == (1, 1)
        await other.rounds(5)
        assert await current(back) == (1, 1)
        async with late(weights_target(missed), weights_target(back)) as third:
            assert await third.version() == (1, 1)
        await missed.push(arrays(3), epoch=1, version=3)
        await eventually(back, (1, 3))
        async with late(weights_target(back)) as fourth:
            assert await fourth.version() == (1, 3)


async def test_a_checkpoint_that_was_taken_back_is_given_up_for_what_peers_serve(tmp_path: Path) -> None:
    publish(tmp_path, Published(3, 9, checkpoint(tmp_path, seed=6), 3, 4))
    async with serving() as first:
        await first.push(arrays(6), epoch=3, version=4)
        await first.push(arrays(7), epoch=3, version=9)
        assert await roll_back(first) == (3, 4)
        async with late(weights_target(first), run=str(tmp_path)) as same:  # nobody brings (3, 9): no wait
            assert await same.version() == (3, 4)
            publish(tmp_path, Published(3, 9, checkpoint(tmp_path, seed=7), 3, 9))
            async with late(weights_target(same), run=str(tmp_path)) as ahead:
                assert await ahead.version() == (3, 4)
                assert await digest(ahead) == await digest(first)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await roll_back(ahead)
                assert reason_of(refused.value) == "NO_PREVIOUS_WEIGHTS"


async def test_even_the_first_weights_are_gone_back_to(tmp_path: Path) -> None:
    publish(tmp_path, Published(1, 1, checkpoint(tmp_path, seed=6), 1, 1))
    async with serving() as first:
        await first.push(arrays(6), epoch=1, version=1)
        assert await roll_back(first) == (0, 0)
        async with late(weights_target(first), run=str(tmp_path)) as second:
            assert await second.version() == (0, 0)
            assert await digest(second) == await digest(first)


async def test_a_replica_whose_copy_was_taken_back_at_its_peer_follows_it() -> None:
    async with serving() as first:
        for version in (1, 2):
            await first.push(arrays(version), epoch=1, version=version)
        async with late(weights_target(first)) as second:
            assert await second.version() == (1, 2)
            assert await roll_back(first) == (1, 1)
            await eventually(second, (1, 1))
            assert await version_once_it_answers(second) == (1, 1)


async def test_a_trainer_may_bring_again_what_was_taken_back() -> None:
    async with serving() as first, fake_peer() as other, late(weights_target(first), other.target) as second:
        for service in (second, first):
            await service.push(arrays(1), epoch=1, version=1)
            await roll_back(service)
        await second.push(arrays(1), epoch=1, version=1)
        await other.rounds(5)  # the first has not heard of it
        assert await second.version() == (1, 1)
        await first.push(arrays(1), epoch=1, version=1)
        async with late(weights_target(first), weights_target(second)) as third:
            assert await third.version() == (1, 1)


def publish(run: Path, published: Published) -> None:
    (run / FILE).write_bytes(published.to_json())


def checkpoint(run: Path, seed: int) -> str:
    save_causal_lm(tiny_model(seed=seed), TextCodec.load("tiny"), run / "checkpoints/step_00000004/policy")
    return "checkpoints/step_00000004/policy"


async def test_without_peers_the_run_s_newest_checkpoint_serves(tmp_path: Path) -> None:
    model = checkpoint(tmp_path, seed=6)
    publish(tmp_path, Published(3, 4, model, 3, 4))
    async with late(run=str(tmp_path)) as service:
        assert await service.version() == (3, 4)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.push(arrays(1), epoch=2, version=9)
        assert reason_of(refused.value) == "FENCED"
        async with serving() as other:
            await other.push(arrays(6), epoch=3, version=4)
            assert await digest(other) == await digest(service)


async def test_an_epoch_that_was_published_is_kept_though_no_checkpoint_is_of_it(tmp_path: Path) -> None:
    publish(tmp_path, Published(4, 0, checkpoint(tmp_path, seed=6), 3, 4))
    async with late(run=str(tmp_path), wait_seconds=0) as service:
        assert await service.version() == (3, 4)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.push(arrays(1), epoch=3, version=9)
        assert reason_of(refused.value) == "FENCED"


async def test_who_waits_for_nobody_copies_from_peers_all_the_same() -> None:
    async with serving() as first:
        await first.push(arrays(1), epoch=1, version=1)
        async with late(weights_target(first), wait_seconds=0) as second:
            assert await second.version() == (1, 1)


async def test_a_lone_replica_waits_for_the_version_that_was_published_last(tmp_path: Path) -> None:
    publish(tmp_path, Published(3, 9, checkpoint(tmp_path, seed=6), 3, 4))
    async with serving() as peer, fake_peer() as other:  # stand for a push, which it takes while it waits
        starting = asyncio.create_task(
            version_when_ready(weights_target(peer), other.target, run=str(tmp_path))
        )
        await other.rounds(3)
        assert not starting.done()
        await peer.push(arrays(8), epoch=3, version=9)
        assert await starting == (3, 9)


async def version_when_ready(*peers: str, **catch_up: Any) -> tuple[int, int]:
    async with late(*peers, **catch_up) as service:
        return await service.version()


async def test_nobody_brings_it_in_time_and_the_older_weights_serve(tmp_path: Path) -> None:
    publish(tmp_path, Published(3, 9, checkpoint(tmp_path, seed=6), 3, 4))
    async with late(run=str(tmp_path), wait_seconds=0.3) as service:
        assert await service.version() == (3, 4)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"epoch": 1, "version": 1, "model": "../../etc"}),
        '{"epoch": "1", "version": 2}',
    ],
)
async def test_a_broken_note_of_the_run_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    async with late(run=str(tmp_path)) as service:
        assert await service.version() == (0, 0)


def test_a_peer_must_be_an_address() -> None:
    with pytest.raises(ValueError, match="peers"):
        PolicyConfig.model_validate({"catch_up": {"peers": 7}})
