"""The policy service over gRPC."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from pilothouse import tensors
from pilothouse.errors import InternalError
from pilothouse.models.text import TextCodec
from pilothouse.policy.runner import ModelRunner
from pilothouse.v1 import policy_pb2, tensor_pb2

from .served import Service, generate_request, reason_of, serving


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(max_waiting=64, max_samples=16) as service:
        yield service


async def test_texts_tokens_and_chats_give_the_same_for_the_same_tokens(service: Service) -> None:
    codec = TextCodec.load("tiny")
    by_text = await service.generate(["the film was"], n=2, seeds=[5], max_new_tokens=8)
    by_tokens = await service.generate([codec.encode("the film was")], n=2, seeds=[5], max_new_tokens=8)
    assert [entry.tokens.data for entry in by_text] == [entry.tokens.data for entry in by_tokens]
    assert by_text[0].text == codec.decode(np.frombuffer(by_text[0].tokens.data, np.int32))
    request = policy_pb2.GenerateRequest(sampling=policy_pb2.SamplingParams(temperature=0, max_new_tokens=4))
    chat = request.chats.chats.add()
    chat.messages.add(role="user", content="hello")
    events = [event async for event in service.policy.Generate(request)]
    prompt = codec.encode_chat([("user", "hello")])
    assert events[0].completion.prompt_tokens == len(prompt)
    same = await service.generate([prompt], temperature=0, max_new_tokens=4)
    assert same[0].tokens == events[0].completion.tokens


async def test_a_completion_says_how_it_ended_and_who_sampled_it(service: Service) -> None:
    entry = (await service.generate(["the"], max_new_tokens=5, ignore_eos=True))[0]
    assert entry.finish_reason == policy_pb2.FINISH_REASON_LENGTH
    assert [(s.epoch, s.version, s.start, s.end) for s in entry.version_spans] == [(0, 0, 0, 5)]
    assert len(tensors.decode(entry.logprobs, name="logprobs", dtype=np.float32, ndim=1)) == 5


async def test_stop_strings_cut_the_text_but_not_the_tokens(service: Service) -> None:
    free = (await service.generate(["a good"], seeds=[3], max_new_tokens=40, ignore_eos=True))[0]
    stop = free.text[6:9]
    cut = (
        await service.generate(["a good"], seeds=[3], max_new_tokens=40, ignore_eos=True, stop_strings=[stop])
    )[0]
    assert cut.finish_reason == policy_pb2.FINISH_REASON_STOP_STRING
    assert cut.text == free.text[: free.text.find(stop)]
    assert free.tokens.data.startswith(cut.tokens.data)
    assert len(cut.tokens.data) < len(free.tokens.data)


async def test_the_text_is_cut_at_the_stop_string_that_ended_it_not_at_one_before_the_minimum(
    service: Service,
) -> None:
    settings = {"seeds": [3], "max_new_tokens": 60, "ignore_eos": True}
    (free,) = await service.generate(["a good"], **settings)
    (ended,) = await service.generate(["a good"], min_new_tokens=21, stop_strings=[" "], **settings)
    ids = np.frombuffer(ended.tokens.data, np.int32)
    early = TextCodec.load("tiny").decode(ids[:20])
    assert len(ids) >= 21
    assert " " in early
    assert ended.finish_reason == policy_pb2.FINISH_REASON_STOP_STRING
    assert ended.text == free.text[: free.text.index(" ", len(early))]


async def test_streamed_chunks_hold_the_tokens_of_the_completions(service: Service) -> None:
    request = generate_request(
        ["the", "a good film"], n=2, stream_tokens=True, max_new_tokens=6, ignore_eos=True
    )
    streamed: dict[tuple[int, int], list[int]] = {}
    whole: dict[tuple[int, int], list[int]] = {}
    async for event in service.policy.Generate(request):
        if event.HasField("chunk"):
            rows = tensors.decode(event.chunk.completions, name="completions", dtype=np.int32, ndim=2)
            tokens = tensors.decode_sequences(event.chunk.tokens, name="tokens", vocabulary_size=512)
            for row, new in zip(rows.tolist(), tokens, strict=True):
                streamed.setdefault(tuple(row), []).extend(new.tolist())
        else:
            entry = event.completion
            whole[entry.prompt_index, entry.sample_index] = np.frombuffer(
                entry.tokens.data, np.int32
            ).tolist()
    assert streamed == whole
    assert len(whole) == 4


async def test_logprobs_score_what_was_sampled(service: Service) -> None:
    codec = TextCodec.load("tiny")
    prompts = [codec.encode("the film"), codec.encode("it was a good and")]
    entries = await service.generate(prompts, temperature=0.7, max_new_tokens=9)
    sequences = [
        np.concatenate([prompt, np.frombuffer(entry.tokens.data, np.int32)])
        for prompt, entry in zip(prompts, entries, strict=True)
    ]
    response = await service.policy.Logprobs(
        policy_pb2.LogprobsRequest(
            sequences=tensors.encode_sequences(sequences),
            prompt_lengths=tensors.encode([len(prompt) for prompt in prompts], np.int32),
            temperature=0.7,
        )
    )
    scored = tensors.decode(response.logprobs, name="logprobs", dtype=np.float32, ndim=1)
    sampled = np.concatenate([np.frombuffer(entry.logprobs.data, np.float32) for entry in entries])
    np.testing.assert_allclose(scored, sampled, atol=1e-4)
    assert (response.epoch, response.version) == (0, 0)


async def test_the_model_describes_itself(service: Service) -> None:
    model = await service.policy.GetModel(policy_pb2.GetModelRequest())
    assert model.model == "tiny"
    assert model.architecture == "LlamaForCausalLM"
    assert (model.vocabulary_size, model.max_sequence_tokens, model.max_running) == (512, 256, 8)
    assert list(model.eos_token_ids) == [2]
    assert len(model.digest) == 64
    assert model.tokenizer_digest == TextCodec.load("tiny").digest


def tokens(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.int32) for row in rows]


HOSTILE = {
    "no prompts": policy_pb2.GenerateRequest(),
    "no texts": policy_pb2.GenerateRequest(texts=tensor_pb2.Texts()),
    "empty text": policy_pb2.GenerateRequest(texts=tensor_pb2.Texts(texts=[""])),
    "endless text": policy_pb2.GenerateRequest(texts=tensor_pb2.Texts(texts=["x " * 600_000])),
    "empty chat": policy_pb2.GenerateRequest(chats=tensor_pb2.Chats(chats=[tensor_pb2.Chat()])),
    "prompt too long": generate_request(tokens([5] * 256)),
    "id too large": generate_request(tokens([512])),
    "negative id": generate_request(tokens([-1])),
    "n of zero": generate_request(tokens([5]), n=0),
    "negative n": generate_request(tokens([5]), n=-3),
    "n too large": generate_request(tokens([5]), n=17),
    "too many completions": generate_request(tokens(*[[5]] * 5), n=16),
    "NaN temperature": generate_request(tokens([5]), temperature=float("nan")),
    "negative temperature": generate_request(tokens([5]), temperature=-1),
    "infinite temperature": generate_request(tokens([5]), temperature=float("inf")),
    "NaN top_p": generate_request(tokens([5]), top_p=float("nan")),
    "top_p of zero": generate_request(tokens([5]), top_p=0.0),
    "negative top_k": generate_request(tokens([5]), top_k=-1),
    "no new tokens": generate_request(tokens([5]), max_new_tokens=0),
    "negative limit": generate_request(tokens([5]), max_new_tokens=-5),
    "limit past the context": generate_request(tokens([5]), max_new_tokens=2**31 - 1),
    "minimum above maximum": generate_request(tokens([5]), max_new_tokens=4, min_new_tokens=5),
    "negative minimum": generate_request(tokens([5]), min_new_tokens=-5),
    "stop id too large": generate_request(tokens([5]), stop_token_ids=[512]),
    "too many stop ids": generate_request(tokens([5]), stop_token_ids=list(range(65))),
    "empty stop string": generate_request(tokens([5]), stop_strings=[""]),
    "long stop string": generate_request(tokens([5]), stop_strings=["x" * 257]),
    "too many stop strings": generate_request(tokens([5]), stop_strings=["x"] * 17),
    "too few seeds": generate_request(tokens([5], [6]), seeds=[1]),
    "seeds as floats": policy_pb2.GenerateRequest(
        tokens=tensors.encode_sequences(tokens([5])), seeds=tensors.encode(np.ones(1, dtype=np.float32))
    ),
    "lengths that do not add up": policy_pb2.GenerateRequest(
        tokens=tensor_pb2.TokenSequences(
            tokens=tensors.encode(np.ones(3, dtype=np.int32)), lengths=tensors.encode(np.int32([2, 2]))
        )
    ),
    "shape beyond the bytes": policy_pb2.GenerateRequest(
        tokens=tensor_pb2.TokenSequences(
            tokens=tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT32, shape=[2**62], data=b"1234"),
            lengths=tensors.encode(np.int32([1])),
        )
    ),
}


async def test_hostile_requests_get_invalid_argument_and_the_server_serves_on(service: Service) -> None:
    for name, request in HOSTILE.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [event async for event in service.policy.Generate(request)]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, name
        assert len(caught.value.details() or "") > 20, name
        assert "Traceback" not in (caught.value.details() or ""), name
    assert len(await service.generate(["the"], max_new_tokens=3)) == 1


@pytest.mark.parametrize(
    ("sequences", "lengths", "temperature"),
    [
        (tokens([5, 6]), [0], 1.0),
        (tokens([5, 6]), [3], 1.0),
        (tokens([5, 6]), [1, 1], 1.0),
        (tokens([5, 512]), [1], 1.0),
        (tokens([5] * 257), [1], 1.0),
        (tokens([5, 6]), [1], 0.0),
        (tokens([5, 6]), [1], float("nan")),
    ],
)
async def test_hostile_scoring_is_refused(
    service: Service, sequences: list[np.ndarray], lengths: list[int], temperature: float
) -> None:
    request = policy_pb2.LogprobsRequest(
        sequences=tensors.encode_sequences(sequences),
        prompt_lengths=tensors.encode(lengths, np.int32),
        temperature=temperature,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.policy.Logprobs(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def one_token_rows(count: int) -> tensor_pb2.TokenSequences:
    ones = tensors.encode(np.ones(count, dtype=np.int32))
    return tensor_pb2.TokenSequences(tokens=ones, lengths=ones)


def text_request(prompts: list[str], responses: list[str], **more: object) -> policy_pb2.LogprobsRequest:
    texts = tensor_pb2.TextSequences(prompts=prompts, responses=responses)
    return policy_pb2.LogprobsRequest(texts=texts, **more)  # type: ignore[arg-type]


async def test_texts_are_scored_as_the_tokens_that_training_makes_of_them(service: Service) -> None:
    codec = TextCodec.load("tiny")
    by_text = await service.policy.Logprobs(text_request(["the film", "a"], [" was good", ""]))
    rows = [
        [*codec.encode("the film"), *codec.encode(" was good", special_tokens=False), codec.eos_id],
        [*codec.encode("a"), codec.eos_id],
    ]
    prompts = [len(codec.encode("the film")), len(codec.encode("a"))]
    assert by_text.tokenised.sequences == tensors.encode_sequences(rows)
    assert by_text.tokenised.prompt_lengths == tensors.encode(prompts, np.int32)
    spans = tensors.decode(by_text.tokenised.spans, name="spans", dtype=np.int32, ndim=2)
    assert [" was good"[start:end] for start, end in spans[:-1].tolist()] == [" was", " good", ""]
    assert spans[-1].tolist() == [0, 0]
    by_tokens = await service.policy.Logprobs(
        policy_pb2.LogprobsRequest(
            sequences=by_text.tokenised.sequences, prompt_lengths=by_text.tokenised.prompt_lengths
        )
    )
    assert (by_text.logprobs, by_text.lengths) == (by_tokens.logprobs, by_tokens.lengths)
    assert not by_tokens.HasField("tokenised")
    request = text_request(["the film", "a"], [" was good", ""])
    request.texts.unfinished = True
    unfinished = await service.policy.Logprobs(request)
    lengths = tensors.decode(unfinished.lengths, name="lengths", dtype=np.int32, ndim=1)
    assert lengths.tolist() == [2, 0]


IDS = tensors.encode_sequences([[5, 6]])
ONE = tensors.encode([1], np.int32)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (policy_pb2.LogprobsRequest(), "set either"),
        (policy_pb2.LogprobsRequest(sequences=IDS), "set either"),
        (policy_pb2.LogprobsRequest(prompt_lengths=ONE), "set either"),
        (text_request(["a"], ["b"], sequences=IDS, prompt_lengths=ONE), "not parts of both"),
        (text_request(["a"], ["b"], prompt_lengths=ONE), "not parts of both"),
        (text_request(["a", "b"], ["c"]), "2 prompts, 1 responses"),
        (text_request(["a"], []), "1 prompts, 0 responses"),
        (text_request([], []), "no texts"),
        (text_request([""], ["b"]), "prompt 0 has no tokens"),
        (text_request(["a", "the film " * 200], ["b", "c"]), "prompt and response 1 have"),
        (text_request(["a"], ["x" * 2001]), "response 0 has 2001 bytes; at most 2000"),
        (text_request(["a"] * 300, ["b"] * 300), "more than 600 tokens; send fewer"),
        (text_request(["a"], ["b"], temperature=0.0), "temperature"),
    ],
)
async def test_texts_that_cannot_be_scored_are_refused(
    request_: policy_pb2.LogprobsRequest, words: str
) -> None:
    async with serving(max_prompt_bytes=2000, max_request_tokens=600) as service:
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await service.policy.Logprobs(request_)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value) == "INVALID_REQUEST"
        assert (await service.policy.Logprobs(text_request(["a"], [""]))).tokenised.HasField("spans")


async def test_scoring_counts_tokens_and_rows_before_it_cuts_them(service: Service) -> None:
    crowds = {
        "at most 262144 at a time": (one_token_rows(500_000), 500_000),
        "send at least one sequence": (one_token_rows(0), 0),
        "add up": (
            tensor_pb2.TokenSequences(
                tokens=tensors.encode(np.ones(3, dtype=np.int32)),
                lengths=tensors.encode(np.ones(200_000, dtype=np.int32)),
            ),
            200_000,
        ),
    }
    for said, (sequences, rows) in crowds.items():
        request = policy_pb2.LogprobsRequest(
            sequences=sequences, prompt_lengths=tensors.encode(np.ones(rows, dtype=np.int32))
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.policy.Logprobs(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in (caught.value.details() or "")


async def test_generate_counts_token_rows_before_it_cuts_them(service: Service) -> None:
    request = policy_pb2.GenerateRequest(tokens=one_token_rows(500_000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [event async for event in service.policy.Generate(request)]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "500000 sequences" in (caught.value.details() or "")


async def test_a_full_queue_answers_resource_exhausted_with_a_hint() -> None:
    async with serving(max_running=1, max_waiting=16) as service:
        request = generate_request(tokens([5]), n=16, stream_tokens=True, max_new_tokens=250, ignore_eos=True)
        call = service.policy.Generate(request)
        await call.read()  # one runs, fifteen wait
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.generate(tokens([9]), n=16)
        call.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(caught.value) == "QUEUE_FULL"
    hint = error_details_pb2.RetryInfo()
    assert any(detail.Is(hint.DESCRIPTOR) for detail in rpc_status.from_call(caught.value).details)


def running_completions(service: Service) -> float:
    value = service.registry.get_sample_value("pilothouse_policy_running")
    assert value is not None
    return value


async def until_idle(service: Service) -> None:
    """Waits until nothing runs, as the engine itself reports."""
    async with asyncio.timeout(30):
        while running_completions(service):
            await asyncio.sleep(0.01)


async def test_a_caller_that_leaves_frees_its_slots(service: Service) -> None:
    for leave_at_once in (False, True):
        request = generate_request(
            tokens([5]), n=8, stream_tokens=not leave_at_once, max_new_tokens=250, ignore_eos=True
        )
        call = service.policy.Generate(request)
        if leave_at_once:  # the handler waits for the engine
            while not running_completions(service):
                await asyncio.sleep(0.001)
        else:  # the handler writes
            await call.read()
        call.cancel()
        await until_idle(service)
        assert (
            service.registry.get_sample_value("pilothouse_policy_completions_total", {"reason": "length"})
            is None
        )


async def test_a_reader_that_stops_reading_holds_up_nobody(service: Service) -> None:
    call = service.policy.Generate(
        generate_request(tokens([5]), n=16, stream_tokens=True, max_new_tokens=250, ignore_eos=True)
    )
    await call.read()
    assert await service.generate(tokens([7]), max_new_tokens=1)
    call.cancel()
    await until_idle(service)


async def test_an_engine_crash_makes_health_not_serving_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised: list[int] = []
    monkeypatch.setattr("signal.raise_signal", raised.append)

    def crash(*_: object) -> None:
        raise RuntimeError("device lost")

    async def crash_while_serving() -> None:
        async with serving() as service:
            monkeypatch.setattr(ModelRunner, "decode", crash)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.generate(["the"], max_new_tokens=5)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            async with asyncio.timeout(10):
                while not raised:
                    await asyncio.sleep(0.01)
            health = health_pb2_grpc.HealthStub(service.channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING

    with pytest.raises(InternalError, match="crashed"):
        await crash_while_serving()
