"""The reward service over a real gRPC server."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from pilothouse import tensors
from pilothouse.config import parse
from pilothouse.errors import ConfigError
from pilothouse.models.export import export_reward_model
from pilothouse.models.heads import ScalarModel
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import tiny_model
from pilothouse.reward.config import RewardConfig
from pilothouse.server import Server
from pilothouse.v1 import reward_pb2, reward_pb2_grpc, tensor_pb2

Serve = Callable[..., AbstractAsyncContextManager[Server]]
Connect = Callable[[Server], AbstractAsyncContextManager[grpc.aio.Channel]]

PROMPTS = ["The film was", "A", ""]
RESPONSES = [" great.", " boring movie.", "so good"]
GAIN, BIAS = 2.0, -0.5


def text_request(prompts: list[str] = PROMPTS, responses: list[str] = RESPONSES) -> reward_pb2.ScoreRequest:
    return reward_pb2.ScoreRequest(texts=reward_pb2.TextPairs(prompts=prompts, responses=responses))


def token_request(sequences: list[Any], prompt_lengths: list[int]) -> reward_pb2.ScoreRequest:
    return reward_pb2.ScoreRequest(
        tokens=reward_pb2.TokenPairs(
            sequences=tensors.encode_sequences(sequences),
            prompt_lengths=tensors.encode(prompt_lengths, np.int32),
        )
    )


def values(tensor: tensor_pb2.Tensor) -> Any:
    return tensors.decode(tensor, name="scores", dtype=np.float32, ndim=1)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("backend", ["onnx", "torch"])
async def test_text_and_tokens_score_as_the_model_itself_does(
    backend: str, reward_folder: Path, onnx_folder: Path, codec: TextCodec, serve: Serve, connect: Connect
) -> None:
    folder = onnx_folder if backend == "onnx" else reward_folder
    sequences = [codec.join(*pair).tokens for pair in zip(PROMPTS, RESPONSES, strict=True)]
    with torch.no_grad():
        raw = ScalarModel.load(reward_folder).last_token_scores(sequences).numpy()
    async with serve(backend=backend, model=str(folder)) as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        by_text = await stub.Score(text_request())
        lengths = [len(codec.encode(prompt)) for prompt in PROMPTS]
        by_tokens = await stub.Score(token_request(sequences, lengths))
    np.testing.assert_allclose(values(by_text.scores), GAIN * raw + BIAS, atol=1e-4)
    np.testing.assert_array_equal(values(by_text.scores), values(by_tokens.scores))
    assert by_text.reward_version == read_manifest(folder).version
    assert [(part.name, part.weight) for part in by_text.components] == [("score", 1.0)]
    np.testing.assert_array_equal(values(by_text.components[0].scores), values(by_text.scores))


async def test_a_text_ends_in_eos_so_that_it_scores_as_a_finished_response(codec: TextCodec) -> None:
    tokens = codec.join("The film", " was great").tokens
    assert tokens[-1] == codec.eos_id
    assert tokens.dtype == np.int32
    assert codec.decode(tokens) == "The film was great"


async def test_the_served_model_describes_itself(onnx_folder: Path, serve: Serve, connect: Connect) -> None:
    async with (
        serve(backend="onnx", model=str(onnx_folder), max_batch_rows=7) as server,
        connect(server) as channel,
    ):
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        described = await stub.GetRewardModel(reward_pb2.GetRewardModelRequest())
    assert described.backend == "onnx"
    assert list(described.providers) == ["CPUExecutionProvider"]
    assert described.reward_version == read_manifest(onnx_folder).version
    assert (described.max_sequence_tokens, described.max_batch_rows) == (256, 7)
    assert described.tokenizer_digest == TextCodec.load(onnx_folder).digest


async def test_a_composite_is_the_weighted_sum_and_reports_every_component(
    onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    parts = [
        {"name": "model", "weight": 0.5, "backend": "onnx", "model": str(onnx_folder)},
        {"name": "polite", "weight": -2.0, "rule": {"kind": "regex", "pattern": "great"}}
        | {"backend": "rules", "tokenizer": str(onnx_folder)},
    ]
    async with serve(backend="composite", parts=parts) as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        response = await stub.Score(text_request())
        tokens = token_request([[5, 6, 7, 2]], [2])
        by_tokens = await stub.Score(tokens)
        described = await stub.GetRewardModel(reward_pb2.GetRewardModelRequest())
    model, polite = (values(part.scores) for part in response.components)
    assert [(part.name, part.weight) for part in response.components] == [("model", 0.5), ("polite", -2.0)]
    assert polite.tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(values(response.scores), 0.5 * model - 2.0 * polite, rtol=1e-6)
    assert len(values(by_tokens.scores)) == 1
    assert described.backend == "composite"
    assert described.tokenizer_digest == TextCodec.load(onnx_folder).digest
    assert described.reward_version == response.reward_version
    assert list(described.providers) == ["CPUExecutionProvider"]


async def test_the_version_of_a_composite_follows_its_weights(serve: Serve, connect: Connect) -> None:
    versions = []
    for weight in (1.0, 1.0, 2.0):
        part = {"name": "length", "weight": weight, "backend": "rules"}
        async with serve(backend="composite", parts=[part]) as server, connect(server) as channel:
            response = await reward_pb2_grpc.RewardServiceStub(channel).Score(text_request())
            versions.append(response.reward_version)
    assert versions[0] == versions[1] != versions[2]


async def test_malformed_requests_are_refused_helpfully_and_the_service_serves_on(
    onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    negative = token_request([[1, 2]], [0])
    negative.tokens.prompt_lengths.CopyFrom(tensors.encode([-1], np.int32))
    floats = token_request([[1, 2]], [0])
    floats.tokens.sequences.tokens.CopyFrom(tensors.encode([1.0, 2.0], np.float32))
    short = token_request([[1, 2]], [0])
    short.tokens.sequences.tokens.shape[0] = 3
    cases = [
        (reward_pb2.ScoreRequest(), "set texts or tokens"),
        (text_request([], []), "1 to 8 rows"),
        (text_request(["a"] * 9, ["b"] * 9), "1 to 8 rows, got 9"),
        (text_request(["a"], ["b", "c"]), "1 prompts, 2 responses"),
        (text_request(["a"], ["b" * 5001]), "5001 characters"),
        (text_request(["a"], [" film" * 300]), "the model takes 256"),
        (token_request([[5] * 257], [3]), "row 0 has 257 tokens"),
        (token_request([[1, 512]], [1]), "outside"),
        (token_request([[1, -3]], [1]), "outside"),
        (token_request([[1, 2], []], [1, 0]), "empty sequence"),
        (token_request([[1]] * 9, [1] * 9), "send at most 8"),
        (token_request([[1, 2]], [3]), r"prompt_lengths[0] is 3"),
        (token_request([[1, 2]], [1, 1]), "2 prompt_lengths for 1"),
        (negative, "prompt_lengths[0] is -1"),
        (floats, "int32"),
        (short, "bytes"),
    ]
    settings = {
        "backend": "onnx",
        "model": str(onnx_folder),
        "max_batch_rows": 8,
        "max_text_characters": 5000,
    }
    async with serve(**settings) as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        for request, message in cases:
            code, details = await refusal(stub.Score(request))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert message in details
        assert len(values((await stub.Score(text_request())).scores)) == 3


async def test_tokens_for_a_scorer_without_tokenizer_are_refused(serve: Serve, connect: Connect) -> None:
    async with serve(backend="rules") as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        code, details = await refusal(stub.Score(token_request([[1, 2]], [1])))
        described = await stub.GetRewardModel(reward_pb2.GetRewardModelRequest())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "send texts" in details
    assert described.tokenizer_digest == ""


async def test_a_rule_with_a_tokenizer_reads_tokens_as_text(
    codec: TextCodec, onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    rule = {"kind": "regex", "pattern": "^ great$"}
    async with (
        serve(backend="rules", rule=rule, tokenizer=str(onnx_folder)) as server,
        connect(server) as channel,
    ):
        prompt = codec.encode("film")
        sequence = np.concatenate([prompt, codec.encode(" great"), [codec.eos_id]])
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        response = await stub.Score(token_request([sequence], [len(prompt)]))
    assert values(response.scores).tolist() == [1.0]


async def test_tokens_are_bound_by_the_length_of_their_text(
    codec: TextCodec, onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    settings = {"backend": "rules", "tokenizer": str(onnx_folder), "max_text_characters": 20}
    async with serve(**settings) as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        long = codec.encode("film film film film film")
        code, details = await refusal(stub.Score(token_request([codec.encode("film"), long], [1, 1])))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "the text of row 1 has" in details
        assert len(values((await stub.Score(token_request([codec.encode("film")], [1]))).scores)) == 1


@pytest.mark.parametrize("backend", ["onnx", "torch"])
async def test_ids_of_a_padded_embedding_are_scored_though_the_tokenizer_does_not_know_them(
    backend: str, codec: TextCodec, tmp_path: Path, serve: Serve, connect: Connect
) -> None:
    """A policy of the same shape draws them, as Qwen3's does."""
    model = tiny_model()
    model.resize_token_embeddings(codec.vocabulary_size + 8)
    scalar = ScalarModel.from_causal_lm(model, seed=1)
    scalar.save(tmp_path / "model", codec)
    if backend == "onnx":
        export_reward_model(tmp_path / "model", tmp_path / "onnx")
    sequence = np.array([5, codec.vocabulary_size, codec.vocabulary_size + 7], np.int32)
    with torch.no_grad():
        expected = scalar.last_token_scores([sequence]).numpy()
    folder = tmp_path / ("onnx" if backend == "onnx" else "model")
    async with serve(backend=backend, model=str(folder)) as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        response = await stub.Score(token_request([sequence], [1]))
        code, details = await refusal(stub.Score(token_request([sequence + 1], [1])))
    np.testing.assert_allclose(values(response.scores), expected, atol=1e-4)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "outside [0, 520)" in details


async def test_an_id_that_the_tokenizer_does_not_know_has_no_text(
    codec: TextCodec, serve: Serve, connect: Connect
) -> None:
    rule = {"kind": "regex", "pattern": "^ great$"}
    response = [*codec.encode(" great"), codec.vocabulary_size + 7]
    async with serve(backend="rules", rule=rule, tokenizer="tiny") as server, connect(server) as channel:
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        scored = await stub.Score(token_request([[5, *response]], [1]))
    assert values(scored.scores).tolist() == [1.0]


async def test_a_score_that_is_not_finite_is_an_error_and_never_a_number(
    reward_folder: Path, tmp_path: Path, serve: Serve, connect: Connect
) -> None:
    scalar = ScalarModel.load(reward_folder)
    with torch.no_grad():
        scalar.score_weight.fill_(float("nan"))
    scalar.save(tmp_path / "nan", TextCodec.load("tiny"))
    async with (
        serve(backend="torch", model=str(tmp_path / "nan")) as server,
        connect(server) as channel,
    ):
        stub = reward_pb2_grpc.RewardServiceStub(channel)
        code, details = await refusal(stub.Score(text_request()))
    assert code is grpc.StatusCode.INTERNAL
    assert "nan" in details


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "onnx"}, "needs model"),
        ({"backend": "triton"}, "triton.target"),
        ({"backend": "triton", "triton": {"target": "x:1"}}, "unless triton.inputs is text"),
        ({"backend": "python"}, "python.scorer"),
        ({"backend": "composite"}, "needs parts"),
        ({"backend": "rules", "parts": [{"name": "a"}]}, "needs parts"),
        ({"backend": "composite", "parts": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"backend": "composite", "parts": [{"name": "a", "backend": "composite"}]}, "itself be composite"),
        ({"batching": {"length_buckets": [8, 4]}}, "ascending"),
        ({"max_batch_rows": 5000}, "max_waiting_rows"),
        ({"modle": "x"}, "did you mean 'model'"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(RewardConfig, settings, section="reward")
