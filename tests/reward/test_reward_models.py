"""Promoting, rolling back and dropping, over real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.reward.conftest import Both

from pilothouse.client import RewardModelsClient
from pilothouse.config import parse
from pilothouse.errors import (
    CandidateExistsError,
    InvalidRequestError,
    NoCandidateError,
    NoPreviousRewardModelError,
    StaleRewardModelError,
)
from pilothouse.local.services import configured
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.build import build
from pilothouse.reward.config import RewardConfig
from pilothouse.v1 import reward_models_pb2 as pb2
from pilothouse.v1 import reward_models_pb2_grpc

Serving = Callable[..., AbstractAsyncContextManager[Both]]
PROMPTS = ["The film was", "A", ""]
RESPONSES = [" great.", " boring movie.", "so good"]


def on(folder: Path, name: str = "a", **settings: Any) -> dict[str, Any]:
    """Settings of a service over one model of a models folder."""
    return {"backend": "torch", "model": str(folder / name), "models_folder": str(folder)} | settings


def version(folder: Path, name: str) -> str:
    return read_manifest(folder / name).version


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Any]:
    config = parse(RewardConfig, {"server": {"http_port": -1}} | settings, section="reward")
    async with build(config) as servers:
        for server in servers:
            await server.start()
        yield servers


async def test_a_candidate_is_scored_promoted_and_taken_back(models_folder: Path, both: Serving) -> None:
    a, o = version(models_folder, "a"), version(models_folder, "o")
    async with both(**on(models_folder)) as service:
        before = await service.score.score(PROMPTS, RESPONSES)
        staged = await service.models.stage("o")
        assert (staged.reward_version, staged.folders, staged.backend) == (o, ("o",), "onnx")
        assert staged.tokenizer_digest == (await service.score.model()).tokenizer_digest
        alone = await service.models.score_candidate(PROMPTS, RESPONSES, reward_version=o)
        assert alone.reward_version == o
        assert (await service.score.model()).reward_version == a

        promoted = await service.models.promote(o, expected_serving_version=a)
        assert promoted == staged
        after = await service.score.score(PROMPTS, RESPONSES)
        assert after.reward_version == o
        np.testing.assert_array_equal(after.values, alone.values)
        loaded = await service.models.models()
        assert loaded.serving == staged
        assert loaded.candidate is None
        assert loaded.previous is not None
        assert (loaded.previous.reward_version, loaded.previous.folders) == (a, ())

        back = await service.models.rollback(expected_serving_version=o)
        assert back.reward_version == a
        np.testing.assert_array_equal((await service.score.score(PROMPTS, RESPONSES)).values, before.values)
        with pytest.raises(NoPreviousRewardModelError, match="stage and promote"):
            await service.models.rollback()


async def test_the_candidate_scores_token_ids(models_folder: Path, both: Serving, codec: TextCodec) -> None:
    joined = codec.join(PROMPTS[0], RESPONSES[0])
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        text = await service.models.score_candidate(PROMPTS[:1], RESPONSES[:1])
        ids = await service.models.score_candidate(
            sequences=[joined.tokens], prompt_lengths=[joined.prompt_length]
        )
    np.testing.assert_array_equal(text.values, ids.values)


async def test_what_is_not_staged_cannot_be_used(models_folder: Path, both: Serving) -> None:
    a = version(models_folder, "a")
    async with both(**on(models_folder)) as service:
        for call in (
            service.models.candidate(),
            service.models.score_candidate(["a"], ["b"]),
            service.models.promote("b", expected_serving_version=a),
            service.models.drop(),
        ):
            with pytest.raises(NoCandidateError, match="call StageRewardModel first"):
                await call


async def test_only_the_named_models_are_swapped(models_folder: Path, both: Serving) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        for call in (
            service.models.promote("other", expected_serving_version=a),
            service.models.promote(b, expected_serving_version="other"),
            service.models.rollback(expected_serving_version="other"),
            service.models.drop("other"),
            service.models.score_candidate(["a"], ["b"], reward_version="other"),
        ):
            with pytest.raises(StaleRewardModelError, match="not other"):
                await call
        with pytest.raises(InvalidRequestError, match="expected_serving_version"):
            await service.models.promote(b, expected_serving_version="")
        loaded = await service.models.models()
    assert loaded.serving.reward_version == a
    assert loaded.candidate is not None


async def test_staging_and_promoting_again_answer_the_same(models_folder: Path, both: Serving) -> None:
    a = version(models_folder, "a")
    async with both(**on(models_folder)) as service:
        staged = await service.models.stage("b")
        assert await service.models.stage("b") == staged
        with pytest.raises(CandidateExistsError, match="promote or drop it first"):
            await service.models.stage("c")
        promoted = await service.models.promote(staged.reward_version, expected_serving_version=a)
        assert await service.models.promote(staged.reward_version, expected_serving_version=a) == promoted
        await service.models.stage("c")
        await service.models.drop()
        assert (await service.models.models()).candidate is None


async def test_the_same_model_may_be_promoted_over_itself(models_folder: Path, both: Serving) -> None:
    a = version(models_folder, "a")
    async with both(**on(models_folder)) as service:
        await service.models.stage("a")
        promoted = await service.models.promote(a, expected_serving_version=a)
        assert (promoted.reward_version, promoted.folders) == (a, ("a",))
        assert (await service.models.models()).candidate is None


async def test_without_a_models_folder_the_door_for_replacing_models_stays_closed(tmp_path: Path) -> None:
    async with build(RewardConfig()) as servers:
        assert [server.name for server in servers] == ["reward"]
    assert [end.name for end in configured("reward").endpoints] == ["reward"]
    overrides = [f'reward.models_folder="{tmp_path}"']
    assert [end.name for end in configured("reward", overrides=overrides).endpoints] == [
        "reward",
        "reward-models",
    ]


async def test_a_scorer_without_tokenizer_may_be_replaced_by_any_model(
    models_folder: Path, both: Serving
) -> None:
    async with both(models_folder=str(models_folder)) as service:
        rules = (await service.score.model()).reward_version
        staged = await service.models.stage("a")
        await service.models.promote(staged.reward_version, expected_serving_version=rules)
        assert (await service.score.model()).backend == "torch"


async def test_requests_of_the_wire_that_no_client_sends_are_refused(
    models_folder: Path,
) -> None:
    config = parse(RewardConfig, on(models_folder, server={"http_port": -1}), section="reward")
    async with build(config) as servers:
        for server in servers:
            await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{servers[1].port}") as channel:
            stub = reward_models_pb2_grpc.RewardModelsServiceStub(channel)
            for request, message in (
                (pb2.StageRewardModelRequest(folders=["a"], combination=9), "unknown to this server"),  # type: ignore[arg-type]
                (pb2.StageRewardModelRequest(folders=["a"], std_factor=-1), "std_factor"),
                (pb2.StageRewardModelRequest(), "1 to 16 folders"),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=message):
                    await stub.StageRewardModel(request)
        for server in servers:
            await server.abort()


async def test_the_blocking_client_does_the_same(models_folder: Path) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")

    def use(target: str) -> None:
        with RewardModelsClient(target) as client:
            staged = client.stage("b", combination="min")
            assert client.models().candidate == staged
            assert client.candidate().serving_version == a
            assert client.score_candidate(PROMPTS, RESPONSES).reward_version == b
            assert client.promote(b, expected_serving_version=a) == staged
            assert client.rollback().reward_version == a
            client.stage("c")
            client.drop()
            with pytest.raises(InvalidRequestError, match="combination must be one of"):
                client.stage("c", combination="max")  # type: ignore[arg-type]

    async with running(**on(models_folder)) as servers:
        await asyncio.to_thread(use, f"127.0.0.1:{servers[1].port}")
        for server in servers:
            await server.abort()
