"""The reward, reference and trainer clients."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from pilothouse import tensors
from pilothouse.client import (
    AsyncReferenceClient,
    AsyncRewardClient,
    AsyncTrainerClient,
    ReferenceClient,
    RewardClient,
    SavedCheckpoint,
    StepMetrics,
    TrainerClient,
)
from pilothouse.errors import InvalidRequestError, ProtocolError
from pilothouse.v1 import reference_pb2 as reference
from pilothouse.v1 import reference_pb2_grpc, reward_pb2_grpc, trainer_pb2_grpc
from pilothouse.v1 import reward_pb2 as reward
from pilothouse.v1 import trainer_pb2 as trainer

Serve = Any
SEQUENCES = [[1, 2, 4], [6, 8]]


class LengthReward(reward_pb2_grpc.RewardServiceServicer):
    """Scores a response by its length."""

    rows_missing = 0
    disagreement: tuple[float, ...] = ()

    def add(self, server: grpc.aio.Server) -> None:
        reward_pb2_grpc.add_RewardServiceServicer_to_server(self, server)

    async def Score(self, request: reward.ScoreRequest, context: Any) -> reward.ScoreResponse:
        if request.WhichOneof("batch") == "texts":
            lengths = np.array([len(text) for text in request.texts.responses])
        else:
            batch = request.tokens
            rows = tensors.decode_sequences(batch.sequences, name="sequences", vocabulary_size=9)
            prompts = tensors.decode(batch.prompt_lengths, name="prompts", dtype=np.int32, ndim=1)
            lengths = np.array([len(row) for row in rows]) - prompts
        values = tensors.encode(lengths[self.rows_missing :], np.float32)
        part = reward.ScoreComponent(name="length", weight=0.5, scores=values)
        spread = tensors.encode(self.disagreement, np.float32) if self.disagreement else None
        return reward.ScoreResponse(
            scores=values, reward_version="v1", components=[part], disagreement=spread
        )

    async def GetRewardModel(self, request: object, context: Any) -> reward.GetRewardModelResponse:
        return reward.GetRewardModelResponse(reward_version="v1", backend="onnx", providers=["CPU"])


class HalfReference(reference_pb2_grpc.ReferenceServiceServicer):
    """Says that every response token had a log-prob of minus one half."""

    def add(self, server: grpc.aio.Server) -> None:
        reference_pb2_grpc.add_ReferenceServiceServicer_to_server(self, server)

    async def Logprobs(
        self, request: reference.ReferenceServiceLogprobsRequest, context: Any
    ) -> reference.ReferenceServiceLogprobsResponse:
        rows = tensors.decode_sequences(request.sequences, name="sequences", vocabulary_size=9)
        prompts = tensors.decode(request.prompt_lengths, name="prompts", dtype=np.int32, ndim=1)
        lengths = np.array([len(row) for row in rows]) - prompts
        answer = reference.ReferenceServiceLogprobsResponse(
            logprobs=tensors.encode([-0.5] * int(lengths.sum()), np.float32),
            lengths=tensors.encode(lengths, np.int32),
            reference_digest="abc",
        )
        if request.HasField("behaviour_logprobs"):
            behaviour = tensors.decode(request.behaviour_logprobs, name="behaviour", dtype=np.float32, ndim=1)
            answer.kl.CopyFrom(tensors.encode(np.asarray(behaviour, np.float32) + 0.5, np.float32))
        return answer

    async def GetReferenceModel(self, request: object, context: Any) -> reference.GetReferenceModelResponse:
        return reference.GetReferenceModelResponse(model="half", reference_digest="abc")


class ScriptedTrainer(trainer_pb2_grpc.TrainerServiceServicer):
    """A run of five steps. Its metrics stall after every second one until the caller's deadline passes."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def add(self, server: grpc.aio.Server) -> None:
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self, server)

    async def GetStatus(self, request: object, context: Any) -> trainer.GetStatusResponse:
        return trainer.GetStatusResponse(run="r", task="ppo", state=trainer.RUN_STATE_RUNNING, step=2)

    async def WatchMetrics(
        self, request: trainer.WatchMetricsRequest, context: Any
    ) -> AsyncIterator[trainer.WatchMetricsResponse]:
        for step in range(max(request.from_step, 1), 6):
            yield trainer.WatchMetricsResponse(step=step, metrics={"objective/kl": step / 2})
            if step % 2 == 0:
                await asyncio.Event().wait()

    async def Pause(self, request: object, context: Any) -> trainer.PauseResponse:
        self.heard.append("pause")
        return trainer.PauseResponse()

    async def Resume(self, request: object, context: Any) -> trainer.ResumeResponse:
        self.heard.append("resume")
        return trainer.ResumeResponse()

    async def Checkpoint(self, request: object, context: Any) -> trainer.CheckpointResponse:
        return trainer.CheckpointResponse(checkpoint="checkpoints/2", step=2)

    async def Stop(self, request: object, context: Any) -> trainer.StopResponse:
        return trainer.StopResponse(checkpoint="checkpoints/3")


def target(server: Any) -> str:
    return f"127.0.0.1:{server.port}"


async def test_texts_and_tokens_are_scored(serve: Serve) -> None:
    server = await serve(LengthReward().add)

    def blocking() -> list[Any]:
        with RewardClient(target(server)) as client:
            return [
                client.score(["p", ""], ["abc", ""]),
                client.score(sequences=SEQUENCES, prompt_lengths=[1, 1]),
                client.model(),
            ]

    async with AsyncRewardClient(target(server)) as client:
        found = [
            await client.score(["p", ""], ["abc", ""]),
            await client.score(sequences=SEQUENCES, prompt_lengths=[1, 1]),
            await client.model(),
        ]
    for texts, tokens, model in (found, await asyncio.to_thread(blocking)):
        assert texts.values.tolist() == [3, 0]
        assert tokens.values.tolist() == [2, 1]
        assert texts.reward_version == "v1"
        [part] = tokens.components
        assert (part.name, part.weight, part.values.tolist()) == ("length", 0.5, [2, 1])
        assert (model.backend, model.providers) == ("onnx", ("CPU",))


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"prompts": ["a"]},
        {"prompts": ["a"], "responses": ["b", "c"]},
        {"prompts": "a", "responses": "b"},
        {"prompts": ["a"], "responses": ["b"], "sequences": [[1]], "prompt_lengths": [1]},
        {"sequences": [[1]]},
        {"prompts": ["\ud800"], "responses": ["b"]},
    ],
    ids=str,
)
def test_an_ambiguous_batch_is_refused_before_the_call(batch: Any) -> None:
    with RewardClient("127.0.0.1:1") as client, pytest.raises(InvalidRequestError):
        client.score(**batch)


def test_behaviour_that_is_no_number_is_refused_before_the_call() -> None:
    with ReferenceClient("127.0.0.1:1") as client, pytest.raises(InvalidRequestError, match="cannot be sent"):
        client.logprobs([[1, 2]], [1], behaviour=[["x"]])


async def test_a_missing_score_is_an_error(serve: Serve) -> None:
    servicer = LengthReward()
    servicer.rows_missing = 1
    async with AsyncRewardClient(target(await serve(servicer.add))) as client:
        with pytest.raises(ProtocolError, match="each of 2 rows"):
            await client.score(["p", ""], ["abc", ""])


async def test_the_disagreement_of_an_ensemble_comes_with_its_scores(serve: Serve) -> None:
    servicer = LengthReward()
    async with AsyncRewardClient(target(await serve(servicer.add))) as client:
        assert (await client.score(["p", ""], ["abc", ""])).disagreement.tolist() == []
        servicer.disagreement = (0.5, 1.0)
        assert (await client.score(["p", ""], ["abc", ""])).disagreement.tolist() == [0.5, 1.0]
        servicer.disagreement = (0.5,)
        with pytest.raises(ProtocolError, match="each of 2 rows"):
            await client.score(["p", ""], ["abc", ""])


async def test_reference_logprobs_come_as_rows_with_kl_if_asked(serve: Serve) -> None:
    server = await serve(HalfReference().add)
    behaviour = [np.array([-1, -2], np.float32), [-3]]

    def blocking() -> list[Any]:
        with ReferenceClient(target(server)) as client:
            return [
                client.logprobs(SEQUENCES, [1, 1]),
                client.logprobs(SEQUENCES, [1, 1], behaviour=behaviour),
                client.model(),
            ]

    async with AsyncReferenceClient(target(server)) as client:
        found = [
            await client.logprobs(SEQUENCES, [1, 1]),
            await client.logprobs(SEQUENCES, [1, 1], behaviour=behaviour),
            await client.model(),
        ]
    for plain, compared, model in (found, await asyncio.to_thread(blocking)):
        assert [row.tolist() for row in plain.rows] == [[-0.5, -0.5], [-0.5]]
        assert plain.kl is None
        assert [row.tolist() for row in compared.kl] == [[-0.5, -1.5], [-2.5]]
        assert plain.reference_digest == "abc" == model.reference_digest


async def test_a_trainer_is_watched_and_steered(serve: Serve) -> None:
    servicer = ScriptedTrainer()
    server = await serve(servicer.add)

    def blocking() -> list[Any]:
        with TrainerClient(target(server)) as client:
            client.pause()
            client.resume()
            return [client.status(), client.checkpoint(), client.stop()]

    async with AsyncTrainerClient(target(server)) as client:
        await client.pause()
        await client.resume()
        found = [await client.status(), await client.checkpoint(), await client.stop()]
    assert found == await asyncio.to_thread(blocking)
    status, saved, last = found
    assert (status.run, status.task, status.state, status.step) == ("r", "ppo", "running", 2)
    assert saved == SavedCheckpoint("checkpoints/2", 2)
    assert last == "checkpoints/3"
    assert servicer.heard == ["pause", "resume"] * 2


async def test_metrics_go_on_over_deadlines_without_gap_or_repeat(serve: Serve) -> None:
    server = await serve(ScriptedTrainer().add)

    def blocking() -> list[StepMetrics]:
        with TrainerClient(target(server), timeout_seconds=0.5) as client:
            return list(client.metrics(from_step=2))

    async with AsyncTrainerClient(target(server), timeout_seconds=0.5) as client:
        found = [item async for item in client.metrics(from_step=2)]
    for items in (found, await asyncio.to_thread(blocking)):
        assert [item.step for item in items] == [2, 3, 4, 5]
        assert items[0].metrics == {"objective/kl": 1.0}
