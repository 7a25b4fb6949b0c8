"""The reference service over the wire."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from pilothouse import tensors
from pilothouse.client import AsyncReferenceClient
from pilothouse.config import parse
from pilothouse.errors import ConfigError, DrainingError, InvalidRequestError, ModelNotFoundError
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.text import TextCodec
from pilothouse.reference.build import build
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reference.worker import Worker
from pilothouse.v1 import reference_pb2, reference_pb2_grpc, tensor_pb2

from .conftest import Serve

SEQUENCES = [np.arange(3, 20, dtype=np.int32), np.arange(40, 45, dtype=np.int32)]
PROMPTS = [5, 4]


def client(server: object) -> AsyncReferenceClient:
    return AsyncReferenceClient(f"127.0.0.1:{server.port}")  # type: ignore[attr-defined]


async def test_logprobs_are_those_of_the_model_and_carry_its_digest(serve: Serve) -> None:
    tiny = load_causal_lm("tiny")
    expected = response_logprobs(tiny.weights, SEQUENCES, PROMPTS, temperature=0.7).detach().numpy()
    async with serve() as server, client(server) as reference:
        answer = await reference.logprobs(SEQUENCES, PROMPTS, 0.7)
        model = await reference.model()
    assert model.tokenizer_digest == tiny.codec.digest
    assert [len(row) for row in answer.rows] == [12, 1]
    np.testing.assert_allclose(np.concatenate(answer.rows), expected, atol=1e-4)
    assert answer.kl is None
    assert answer.reference_digest == model.reference_digest == state_digest(parameters_by_name(tiny.model))
    assert (model.vocabulary_size, model.max_sequence_tokens) == (512, 256)


TEXTS = {"prompts": ["the film", "a"], "responses": [" was good", ""]}


async def test_texts_are_answered_as_the_tokens_that_training_makes_of_them(serve: Serve) -> None:
    codec = TextCodec.load("tiny")
    prompts = [codec.encode(text) for text in TEXTS["prompts"]]
    rows = [
        np.concatenate([prompt, codec.encode(response, special_tokens=False), [codec.eos_id]])
        for prompt, response in zip(prompts, TEXTS["responses"], strict=True)
    ]
    behaviour = [np.full(len(row) - len(prompt), -2.0) for row, prompt in zip(rows, prompts, strict=True)]
    async with serve() as server, client(server) as reference:
        by_text = await reference.logprobs(**TEXTS, temperature=0.7, behaviour=behaviour)
        by_tokens = await reference.logprobs(rows, [len(row) for row in prompts], 0.7, behaviour)
        unfinished = await reference.logprobs(**TEXTS, unfinished=True, temperature=0.7)
    assert by_text.tokenised is not None
    assert by_tokens.tokenised is None
    for found, expected in zip(by_text.tokenised.sequences, rows, strict=True):
        np.testing.assert_array_equal(found, expected)
    for name in ("rows", "kl"):
        for found, expected in zip(getattr(by_text, name), getattr(by_tokens, name), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert by_text.reference_digest == by_tokens.reference_digest
    spans = by_text.tokenised.spans[0].tolist()
    assert [" was good"[start:end] for start, end in spans] == [" was", " good", ""]
    assert [len(row) for row in by_text.rows] == [3, 1]
    assert [len(row) for row in unfinished.rows] == [2, 0]
    np.testing.assert_allclose(unfinished.rows[0], by_text.rows[0][:-1], atol=1e-5)


async def test_kl_is_behaviour_minus_reference(serve: Serve) -> None:
    behaviour = [np.linspace(-3, -1, 12, dtype=np.float32), np.array([-2.0], np.float32)]
    async with serve() as server, client(server) as reference:
        answer = await reference.logprobs(SEQUENCES, PROMPTS, behaviour=behaviour)
    assert answer.kl is not None
    for kl, own, row in zip(answer.kl, behaviour, answer.rows, strict=True):
        np.testing.assert_array_equal(kl, own - row)


async def test_many_callers_at_once_get_their_own_answers(serve: Serve) -> None:
    rng = np.random.default_rng(0)
    requests = [[rng.integers(3, 500, length, dtype=np.int32)] for length in range(4, 24)]
    async with serve() as server, client(server) as reference:
        together = await asyncio.gather(*(reference.logprobs(rows, [2]) for rows in requests))
        for rows, answer in zip(requests, together, strict=True):
            alone = await reference.logprobs(rows, [2])
            np.testing.assert_array_equal(alone.rows[0], answer.rows[0])


def texts(prompts: list[str], responses: list[str]) -> tensor_pb2.TextSequences:
    return tensor_pb2.TextSequences(prompts=prompts, responses=responses)


def texts_only(prompts: list[str], responses: list[str]) -> dict[str, object]:
    return {"sequences": None, "prompt_lengths": None, "texts": texts(prompts, responses)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequences": tensors.encode_sequences([[5, 512]])}, "token ids outside"),
        ({"sequences": tensors.encode_sequences([[5, -1]])}, "token ids outside"),
        ({"sequences": tensors.encode_sequences([[]])}, "empty sequence"),
        ({"sequences": tensors.encode_sequences([])}, "no sequences"),
        ({"sequences": tensors.encode_sequences([[5] * 300])}, "shorten it to 256"),
        ({"prompt_lengths": tensors.encode([1, 1], np.int32)}, "send one for each"),
        ({"prompt_lengths": tensors.encode([1], np.int64)}, "must have dtype int32"),
        ({"prompt_lengths": tensors.encode([9], np.int32)}, "at most its sequence"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1e-45}, "temperature"),
        ({"behaviour_logprobs": tensors.encode([0.5], np.float32)}, "1 values for 2"),
        ({"behaviour_logprobs": tensors.encode([0.5, np.nan], np.float32)}, "NaN"),
        ({"texts": texts(["a"], ["b"])}, "not parts of both"),
        ({"prompt_lengths": None}, "set either"),
        ({"sequences": None}, "set either"),
        ({"sequences": None, "prompt_lengths": None}, "set either"),
        ({"sequences": None, "texts": texts(["a"], ["b"])}, "not parts of both"),
        (texts_only(["a", "b"], ["c"]), "2 prompts, 1 responses"),
        (texts_only([], []), "no texts"),
        (texts_only([""], ["b"]), "prompt 0 has no tokens"),
        (texts_only(["a", "the film " * 200], ["b", "c"]), "prompt and response 1 have .* at most 256"),
        (texts_only(["a"], ["x" * 2001]), "response 0 has 2001 bytes; at most 2000"),
        (texts_only(["é" * 1001], ["b"]), "prompt 0 has 2002 bytes"),
        (texts_only(["a"] * 300, ["b"] * 300), "more than 600 tokens; send fewer"),
        (texts_only(["a"], ["b"]) | {"temperature": -1.0}, "temperature"),
    ],
)
async def test_a_malformed_request_is_refused_and_the_server_serves_on(
    serve: Serve, changes: dict[str, object], words: str
) -> None:
    fields = {
        "sequences": tensors.encode_sequences([[5, 6, 7]]),
        "prompt_lengths": tensors.encode([1], np.int32),
    }
    async with (
        serve(max_text_bytes=2000, max_request_tokens=600) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = reference_pb2_grpc.ReferenceServiceStub(channel)
        bad = reference_pb2.ReferenceServiceLogprobsRequest(**(fields | changes))
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await stub.Logprobs(bad, timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        good = await stub.Logprobs(reference_pb2.ReferenceServiceLogprobsRequest(**fields), timeout=60)
    assert tensors.decode(good.lengths, name="lengths", dtype=np.int32, ndim=1).tolist() == [2]


async def test_the_client_raises_the_servers_own_error(serve: Serve) -> None:
    async with serve() as server, client(server) as reference:
        with pytest.raises(InvalidRequestError, match="temperature"):
            await reference.logprobs(SEQUENCES, PROMPTS, temperature=-1.0)


async def test_a_model_that_is_not_there_is_told() -> None:
    config = parse(ReferenceConfig, {"model": "nowhere"}, section="reference")
    with pytest.raises(ModelNotFoundError):
        async with build(config):
            pass


async def test_a_limit_beyond_the_models_context_is_refused() -> None:
    config = parse(ReferenceConfig, {"max_sequence_tokens": 257}, section="reference")
    with pytest.raises(ConfigError, match="context of 256"):
        async with build(config):
            pass


async def test_a_model_folder_is_served_under_its_name(serve: Serve, tiny_folder: Path) -> None:
    async with serve(model=str(tiny_folder), threads=1) as server, client(server) as reference:
        assert (await reference.model()).model == tiny_folder.name


async def test_work_for_a_caller_who_has_gone_is_stopped() -> None:
    worker = Worker()
    started, stopped = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def job(gone: Callable[[], bool]) -> None:
        loop.call_soon_threadsafe(started.set)
        while not gone():
            pass
        stopped.set()

    caller = asyncio.create_task(worker.run(job))
    await started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await asyncio.to_thread(stopped.wait, 60)
    worker.close()


async def test_closing_stops_the_running_job_and_says_why() -> None:
    worker = Worker()
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def job(gone: Callable[[], bool]) -> None:
        loop.call_soon_threadsafe(started.set)
        while not gone():
            pass

    caller = asyncio.create_task(worker.run(job))
    await started.wait()
    await asyncio.to_thread(worker.close)
    with pytest.raises(DrainingError, match="shutting down"):
        await caller
