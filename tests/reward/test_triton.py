"""The Triton backend: text against our own v2 door, tokens against a real Triton server."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
import tritonclient.grpc as triton
from tests.certificates import Authority, settings

from pilothouse import tensors
from pilothouse.errors import (
    CorruptDataError,
    DeadlineExceededError,
    ModelNotFoundError,
    QueueFullError,
    UnavailableError,
)
from pilothouse.models.heads import ScalarModel
from pilothouse.models.reward_files import MANIFEST, read_manifest, write_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Buckets, Row
from pilothouse.reward.backends.onnx import OnnxBackend
from pilothouse.reward.backends.triton import TritonBackend
from pilothouse.reward.config import TritonConfig
from pilothouse.reward.v2 import InferenceServicer
from pilothouse.server import Server
from pilothouse.tls import adopt
from pilothouse.v1 import reward_pb2, reward_pb2_grpc

Serve = Callable[..., AbstractAsyncContextManager[Server]]
Connect = Callable[[Server], AbstractAsyncContextManager[grpc.aio.Channel]]

ROOT = Path(__file__).parents[2]
BUCKETS = Buckets((8, 16, 64, 256))
PROMPTS = ["The film was", "A", ""]
RESPONSES = [" great.", " boring movie.", "so good"]
START_SECONDS = 120.0


async def score(channel: grpc.aio.Channel) -> reward_pb2.ScoreResponse:
    texts = reward_pb2.TextPairs(prompts=PROMPTS, responses=RESPONSES)
    stub = reward_pb2_grpc.RewardServiceStub(channel)
    response: reward_pb2.ScoreResponse = await stub.Score(reward_pb2.ScoreRequest(texts=texts))
    return response


async def test_text_is_scored_by_another_server_of_the_v2_protocol(
    onnx_folder: Path, serve: Serve, connect: Connect
) -> None:
    async with serve(backend="onnx", model=str(onnx_folder)) as remote:
        target = {"target": f"127.0.0.1:{remote.port}", "inputs": "text"}
        async with (
            serve(backend="triton", triton=target) as server,
            connect(remote) as there,
            connect(server) as here,
        ):
            direct, through = await score(there), await score(here)
    assert direct.scores == through.scores
    assert through.reward_version.startswith("triton:reward:")


async def test_a_server_that_is_away_or_lacks_the_model_is_told_by_name(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        config = TritonConfig(target=f"127.0.0.1:{taken.getsockname()[1]}", inputs="text")
        with pytest.raises(UnavailableError, match="UNAVAILABLE"):
            TritonBackend(config, BUCKETS, folder=None)
    async with serve(backend="rules") as remote:
        config = TritonConfig(target=f"127.0.0.1:{remote.port}", inputs="text", model="other")
        with pytest.raises(ModelNotFoundError, match="'other'"):
            await asyncio.to_thread(TritonBackend, config, BUCKETS, folder=None)


@pytest.mark.usefixtures("no_identity")
async def test_a_server_that_demands_tls_is_given_a_certificate(serve: Serve, tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("both")
    adopt(overrides=settings(tls), environment={})
    async with serve(backend="rules") as remote:
        target = f"127.0.0.1:{remote.port}"
        backend = await asyncio.to_thread(
            TritonBackend, TritonConfig(target=target, inputs="text", tls=tls), BUCKETS, folder=None
        )
        try:
            assert backend.version.startswith("triton:reward:")
        finally:
            backend.close()
        plain = TritonConfig(target=target, inputs="text")
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(TritonBackend, plain, BUCKETS, folder=None)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that calls to the v2 door of this process had left when they arrived."""
    seen: list[float] = []
    whole = InferenceServicer.ModelInfer

    async def noting(self: InferenceServicer, request: Any, context: Any) -> Any:
        seen.append(context.time_remaining())
        return await whole(self, request, context)

    monkeypatch.setattr(InferenceServicer, "ModelInfer", noting)
    return seen


async def test_the_nearer_of_the_callers_deadline_and_the_configured_wait_is_passed_on(
    called: list[float], serve: Serve, connect: Connect
) -> None:
    request = reward_pb2.ScoreRequest(texts=reward_pb2.TextPairs(prompts=["a"], responses=["b"]))
    async with serve(backend="rules") as remote:
        target = {"target": f"127.0.0.1:{remote.port}", "inputs": "text", "timeout_seconds": 500}
        async with serve(backend="triton", triton=target) as server, connect(server) as channel:
            score = reward_pb2_grpc.RewardServiceStub(channel).Score
            await score(request, timeout=100)
            await score(request, timeout=1000)
            await score(request)
            with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
                inputs = [triton.InferInput(name, [1], "BYTES") for name in ("prompt", "response")]
                for tensor in inputs:
                    tensor.set_data_from_numpy(np.array([b"a"], dtype=np.object_))
                await asyncio.to_thread(client.infer, "reward", inputs, client_timeout=50)
    # gRPC rounds up what it sends.
    assert called[0] <= 110 < called[1] <= 510
    assert 110 < called[2] <= 510
    outer, inner = called[3:]  # this call came through a v2 door twice
    assert max(outer, inner) <= 60


async def test_a_batch_waits_for_its_last_caller_and_not_beyond(called: list[float], serve: Serve) -> None:
    async with serve(backend="rules") as remote:
        config = TritonConfig(target=f"127.0.0.1:{remote.port}", inputs="text", timeout_seconds=10_000)
        backend = await asyncio.to_thread(TritonBackend, config, BUCKETS, folder=None)
        now = time.monotonic()
        rows = [Row("a", "b", deadline=now + 1), Row("a", "b", deadline=now + 1000)]
        assert len(await asyncio.to_thread(backend.score, rows)) == 2
        with pytest.raises(DeadlineExceededError):
            await asyncio.to_thread(backend.score, [Row("a", "b", deadline=now - 1)])
        backend.close()
    assert len(called) == 1
    assert 1 < called[0] <= 1010


async def test_a_busy_server_is_asked_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = InferenceServicer.ModelInfer, [QueueFullError("busy", retry_after_seconds=0.01)]

    async def busy_once(self: InferenceServicer, request: Any, context: Any) -> Any:
        if failures:
            raise failures.pop()
        return await whole(self, request, context)

    monkeypatch.setattr(InferenceServicer, "ModelInfer", busy_once)
    async with serve(backend="rules") as remote:
        config = TritonConfig(target=f"127.0.0.1:{remote.port}", inputs="text")
        backend = await asyncio.to_thread(TritonBackend, config, BUCKETS, folder=None)
        assert len(await asyncio.to_thread(backend.score, [Row("a", "b")])) == 1
        backend.close()
    assert not failures


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


@pytest.fixture(scope="module")
def real_triton(
    onnx_folder: Path, require: Callable[[object, str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a real Triton server that serves the exported model."""
    require((ROOT / ".venvs/triton/.installed").exists(), "a real Triton server; run `make test-triton`")
    grpc_port, http_port = free_ports()
    log = tmp_path_factory.mktemp("triton") / "log"
    command = [str(ROOT / "deploy/triton/serve.sh"), str(onnx_folder), str(grpc_port), str(http_port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        target = f"127.0.0.1:{grpc_port}"
        try:
            _wait_until_ready(target, process, log)
            yield target
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(target: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with triton.InferenceServerClient(target) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.is_model_ready("reward"):
                    return
            except triton.InferenceServerException:
                pass
            time.sleep(0.2)
    pytest.fail(f"Triton did not become ready:\n{log.read_text()[-4000:]}")


@pytest.mark.triton
def test_a_real_triton_server_scores_as_onnx_runtime_does_here(real_triton: str, onnx_folder: Path) -> None:
    backend = TritonBackend(TritonConfig(target=real_triton), BUCKETS, folder=onnx_folder)
    generator = np.random.default_rng(0)
    rows = [Row(tokens=generator.integers(0, 512, n).astype(np.int32)) for n in (1, 5, 16, 40, 200)]
    expected = OnnxBackend(onnx_folder, BUCKETS).score(rows)
    np.testing.assert_allclose(backend.score(rows), expected, atol=1e-4)
    assert backend.version == f"triton:reward:{read_manifest(onnx_folder).version}"
    with triton.InferenceServerClient(real_triton) as client:
        assert client.get_server_metadata().name == "triton"


@pytest.mark.triton
async def test_the_service_scores_text_through_a_real_triton_server_as_torch_does(
    real_triton: str, reward_folder: Path, onnx_folder: Path, codec: TextCodec, serve: Serve, connect: Connect
) -> None:
    model = ScalarModel.load(reward_folder)
    sequences = [
        np.concatenate([codec.encode(prompt), codec.encode(response), [codec.eos_id]]).astype(np.int32)
        for prompt, response in zip(PROMPTS, RESPONSES, strict=True)
    ]
    with torch.no_grad():
        expected = model.gain * model.last_token_scores(sequences).numpy() + model.bias
    settings = {"backend": "triton", "model": str(onnx_folder), "triton": {"target": real_triton}}
    async with serve(**settings) as server, connect(server) as channel:
        response = await score(channel)
        scores = tensors.decode(response.scores, name="scores", dtype=np.float32, ndim=1)
        described = await reward_pb2_grpc.RewardServiceStub(channel).GetRewardModel(
            reward_pb2.GetRewardModelRequest()
        )
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert described.backend == "triton"
    assert described.reward_version == response.reward_version


@pytest.mark.triton
def test_a_triton_server_with_another_model_version_is_refused(
    real_triton: str, onnx_folder: Path, tmp_path: Path
) -> None:
    for name in read_manifest(onnx_folder).files:
        (tmp_path / name).write_bytes((onnx_folder / name).read_bytes())
    write_manifest(tmp_path, gain=9.0, max_sequence_tokens=256)
    assert (tmp_path / MANIFEST).exists()
    with pytest.raises(CorruptDataError, match="give both the same exported folder"):
        TritonBackend(TritonConfig(target=real_triton), BUCKETS, folder=tmp_path)


@pytest.mark.triton
def test_what_fails_on_a_real_triton_server_is_an_error_and_never_a_score(
    real_triton: str, onnx_folder: Path
) -> None:
    from pilothouse.errors import ScoringFailedError

    backend = TritonBackend(TritonConfig(target=real_triton), BUCKETS, folder=onnx_folder)
    with pytest.raises(ScoringFailedError, match="Triton server"):
        backend.score([Row(tokens=np.array([9999], dtype=np.int32))])
