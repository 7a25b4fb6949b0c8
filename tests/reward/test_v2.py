"""The Open Inference Protocol v2 door, through an unmodified Triton client."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from pilothouse import tensors
from pilothouse.server import Server
from pilothouse.v1 import reward_pb2, reward_pb2_grpc

Serve = Callable[..., AbstractAsyncContextManager[Server]]
Connect = Callable[[Server], AbstractAsyncContextManager[grpc.aio.Channel]]

PROMPTS = ["The film was", "Ein Satz mit Umlauten: äöü", ""]
RESPONSES = [" great.", " boring movie.", "so good"]


def text_input(name: str, texts: list[str], shape: list[int]) -> triton.InferInput:
    tensor = triton.InferInput(name, shape, "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape))
    return tensor


async def with_client(server: Server, use: Callable[[triton.InferenceServerClient], Any]) -> Any:
    """Runs the blocking client in a thread, as a program of its own would."""

    def run() -> Any:
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            return use(client)

    return await asyncio.to_thread(run)


async def test_an_unmodified_triton_client_scores_text(
    onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    async with serve(backend="onnx", model=str(onnx_folder)) as server, connect(server) as channel:
        request = reward_pb2.ScoreRequest(texts=reward_pb2.TextPairs(prompts=PROMPTS, responses=RESPONSES))
        own = await reward_pb2_grpc.RewardServiceStub(channel).Score(request)
        expected = tensors.decode(own.scores, name="scores", dtype=np.float32, ndim=1)
        for shape in ([3], [3, 1]):
            inputs = [text_input("prompt", PROMPTS, shape), text_input("response", RESPONSES, shape)]

            def infer(client: triton.InferenceServerClient, inputs: Any = inputs) -> triton.InferResult:
                outputs = [triton.InferRequestedOutput("score")]
                return client.infer("reward", inputs, outputs=outputs, request_id="7")

            answer = await with_client(server, infer)
            scores = answer.as_numpy("score")
            assert scores.dtype == np.float32
            assert list(scores.shape) == shape
            np.testing.assert_array_equal(scores.reshape(-1), expected)
            assert answer.get_response().id == "7"
            assert answer.get_response().model_version == own.reward_version


async def test_a_single_text_scores_as_a_response_without_prompt(onnx_folder: Path, serve: Serve) -> None:
    async with serve(backend="onnx", model=str(onnx_folder)) as server:
        alone = await with_client(server, lambda c: c.infer("reward", [text_input("text", RESPONSES, [3])]))
        pairs = [text_input("prompt", [""] * 3, [3]), text_input("response", RESPONSES, [3])]
        both = await with_client(server, lambda c: c.infer("reward", pairs))
    np.testing.assert_array_equal(alone.as_numpy("score"), both.as_numpy("score"))


async def test_clients_find_server_and_model(onnx_folder: Path, serve: Serve) -> None:
    async with serve(backend="onnx", model=str(onnx_folder), v2_model_name="film-taste") as server:
        assert await with_client(server, lambda c: c.is_server_live())
        assert await with_client(server, lambda c: c.is_server_ready())
        assert await with_client(server, lambda c: c.is_model_ready("film-taste"))
        assert not await with_client(server, lambda c: c.is_model_ready("other"))
        assert (await with_client(server, lambda c: c.get_server_metadata())).name == "pilothouse"
        metadata = await with_client(server, lambda c: c.get_model_metadata("film-taste"))
    assert metadata.platform == "pilothouse_onnx"
    assert [(put.name, put.datatype, list(put.shape)) for put in [*metadata.inputs, *metadata.outputs]] == [
        ("prompt", "BYTES", [-1]),
        ("response", "BYTES", [-1]),
        ("score", "FP32", [-1]),
    ]


def typed_request(**changes: Any) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=changes.get("model", "reward"))
    for name in changes.get("names", ("prompt", "response")):
        tensor = request.inputs.add(
            name=name, datatype=changes.get("datatype", "BYTES"), shape=changes.get("shape", [2])
        )
        tensor.contents.bytes_contents.extend(changes.get("texts", [b"a", b"b"]))
    request.raw_input_contents.extend(changes.get("raw", []))
    request.outputs.extend(
        service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
        for name in changes.get("outputs", [])
    )
    return request


async def test_typed_contents_are_answered_with_typed_contents(serve: Serve, connect: Connect) -> None:
    rule = {"kind": "regex", "pattern": "b"}
    async with serve(backend="rules", rule=rule) as server, connect(server) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = await stub.ModelInfer(typed_request())
    assert list(answer.outputs[0].contents.fp32_contents) == [0.0, 1.0]
    assert not answer.raw_output_contents


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"model": "other"}, "NOT_FOUND", "this server has the model 'reward'"),
        ({"names": ("prompt",)}, "INVALID_ARGUMENT", "text alone"),
        ({"names": ("text", "text")}, "INVALID_ARGUMENT", "text alone"),
        ({"datatype": "FP32"}, "INVALID_ARGUMENT", "BYTES"),
        ({"shape": [3]}, "INVALID_ARGUMENT", "its shape says 3"),
        ({"shape": [-2]}, "INVALID_ARGUMENT", "shape"),
        ({"shape": []}, "INVALID_ARGUMENT", "shape"),
        ({"shape": [1, 2]}, "INVALID_ARGUMENT", "shape"),
        ({"texts": [b"\xff", b"a"]}, "INVALID_ARGUMENT", "UTF-8"),
        ({"texts": [], "raw": [b"\x01"]}, "INVALID_ARGUMENT", "raw_input_contents"),
        ({"texts": [], "raw": [b"\xff\xff\xff\xffab"] * 2}, "INVALID_ARGUMENT", "cut off"),
        ({"texts": [], "raw": [b"\x01\x00"] * 2}, "INVALID_ARGUMENT", "cut off"),
        ({"texts": [], "shape": [0]}, "INVALID_ARGUMENT", "rows"),
        ({"texts": [], "shape": [2000], "raw": [bytes(8000)] * 2}, "INVALID_ARGUMENT", "1 to 1024 rows"),
        ({"texts": [], "raw": [bytes(400_000)] * 2}, "INVALID_ARGUMENT", "holds more than 2 texts"),
        ({"outputs": ["logits"]}, "INVALID_ARGUMENT", "the one output is score"),
    ],
)
async def test_malformed_v2_requests_are_refused_helpfully(
    changes: dict[str, Any], code: str, message: str, serve: Serve, connect: Connect
) -> None:
    async with serve(backend="rules") as server, connect(server) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(typed_request(**changes))
        assert caught.value.code().name == code
        assert message in (caught.value.details() or "")
        assert (await stub.ModelInfer(typed_request())).outputs[0].name == "score"


async def test_methods_that_manage_a_triton_server_are_not_offered(serve: Serve) -> None:
    async with serve(backend="rules") as server:
        with pytest.raises(InferenceServerException) as caught:
            await with_client(server, lambda c: c.load_model("reward"))
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
