import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pilothouse import tensors
from pilothouse.client import (
    AsyncPolicyClient,
    Completion,
    PolicyClient,
    ReferenceClient,
    SamplingParams,
    TokenEvent,
    VersionSpan,
)
from pilothouse.client.policy_codec import generate_request
from pilothouse.errors import InvalidRequestError, InvalidTensorError, ProtocolError

from .conftest import tokenise

Serve = Any
Echo = Any


def target(server: Any) -> str:
    return f"127.0.0.1:{server.port}"


def check(completions: list[Completion]) -> None:
    places = [(item.prompt_index, item.sample_index) for item in completions]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    last = completions[-1]
    assert last.tokens.tolist() == [8, 1, 2]
    assert last.tokens.dtype == np.int32
    assert last.logprobs.tolist() == [-1, -2, -3]
    assert (last.text, last.finish_reason, last.prompt_tokens) == ("8/1", "stop_token", 5)
    assert last.version_spans == (VersionSpan(1, 1, 0, 2), VersionSpan(1, 2, 2, 3))


async def test_completions_come_ordered_whatever_ended_first(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)

    def blocking() -> list[Completion]:
        with PolicyClient(target(server)) as client:
            return client.generate(["a", "b"], n=2, seeds=[7, 8])

    check(await asyncio.to_thread(blocking))
    async with AsyncPolicyClient(target(server)) as client:
        check(await client.generate(["a", "b"], n=2, seeds=[7, 8]))


async def test_settings_and_prompts_arrive_as_given(serve: Serve, echo: Echo) -> None:
    sampling = SamplingParams(
        temperature=0.5,
        top_p=0.75,
        top_k=3,
        min_new_tokens=1,
        max_new_tokens=9,
        stop_token_ids=[4],
        stop_strings=["\n"],
        ignore_eos=True,
    )
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        await client.generate([np.array([1, 2], np.int64), [3]], sampling, n=3, seeds=[1, 2**62])
    [request] = echo.requests
    rows = tensors.decode_sequences(request.tokens, name="prompts", vocabulary_size=9)
    assert [row.tolist() for row in rows] == [[1, 2], [3]]
    sent = request.sampling
    assert (sent.temperature, sent.top_p, sent.top_k) == (0.5, 0.75, 3)
    assert (sent.min_new_tokens, sent.max_new_tokens, sent.ignore_eos) == (1, 9, True)
    assert (list(sent.stop_token_ids), list(sent.stop_strings)) == ([4], ["\n"])
    assert (request.n, request.stream_tokens) == (3, False)


@pytest.mark.parametrize(
    ("prompts", "kind"),
    [
        (["hello"], "texts"),
        ([""], "texts"),
        ([[1, 2]], "tokens"),
        ([np.array([1, 2])], "tokens"),
        (np.array([[1, 2], [3, 4]]), "tokens"),
        ([[("user", "hello")]], "chats"),
        ([[{"role": "user", "content": "hello"}]], "chats"),
    ],
)
def test_the_kind_of_prompts_is_seen(prompts: Any, kind: str) -> None:
    request = generate_request(prompts, None, n=1, seeds=None, stream_tokens=False)
    assert request.WhichOneof("prompts") == kind


def test_conversations_keep_their_turns() -> None:
    chat = [("system", "be short"), {"role": "user", "content": "hello"}]
    request = generate_request([chat], None, n=1, seeds=None, stream_tokens=False)
    turns = [(message.role, message.content) for message in request.chats.chats[0].messages]
    assert turns == [("system", "be short"), ("user", "hello")]


@pytest.mark.parametrize(
    "prompts",
    ["hello", [], ["a", [1]], [[("user", "a")], [1]], [[{"role": "user"}]], [[0.5]], [[2**40]], [[[1]]]],
    ids=repr,
)
def test_prompts_of_no_known_kind_are_refused_before_the_call(prompts: Any) -> None:
    with pytest.raises(InvalidRequestError):
        generate_request(prompts, None, n=1, seeds=None, stream_tokens=False)


@pytest.mark.parametrize("prompts", [[1, 2], [{"role": "user", "content": "a"}], [("user", "a")]], ids=repr)
def test_a_single_prompt_that_is_in_no_list_is_told_so(prompts: Any) -> None:
    with pytest.raises(InvalidRequestError, match="put a single prompt into a list"):
        generate_request(prompts, None, n=1, seeds=None, stream_tokens=False)


def test_a_message_without_content_is_refused_and_not_sent_empty() -> None:
    chat: Any = [{"role": "user", "content": None}]
    with pytest.raises(InvalidRequestError, match="must be texts"):
        generate_request([chat], None, n=1, seeds=None, stream_tokens=False)


def test_one_stop_string_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(InvalidRequestError, match="put it into a list"):
        generate_request(["a"], SamplingParams(stop_strings="END"), n=1, seeds=None, stream_tokens=False)


@pytest.mark.parametrize(
    ("prompt", "sampling", "n"),
    [
        ("\ud800", SamplingParams(), 1),
        ("a", SamplingParams(top_k=2**40), 1),
        ("a", SamplingParams(), 2**40),
        ("a", SamplingParams(temperature="hot"), 1),  # type: ignore[arg-type]
    ],
)
def test_what_no_message_can_hold_is_an_invalid_request(
    prompt: str, sampling: SamplingParams, n: int
) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be sent"):
        generate_request([prompt], sampling, n=n, seeds=None, stream_tokens=False)


def test_seeds_must_match_prompts() -> None:
    with pytest.raises(InvalidRequestError, match="1 seeds for 2 prompts"):
        generate_request(["a", "b"], None, n=1, seeds=[1], stream_tokens=False)


async def test_a_missing_completion_is_an_error(serve: Serve, echo: Echo) -> None:
    echo.missing = 1
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises(ProtocolError, match="3 completions"):
            await client.generate(["a", "b"], n=2, seeds=[7, 8])


async def test_tokens_stream_before_completions(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)

    def blocking() -> list[Completion | TokenEvent]:
        with PolicyClient(target(server)) as client:
            return list(client.stream(["a", "b"], seeds=[7, 8], stream_tokens=True))

    async with AsyncPolicyClient(target(server)) as client:
        received = client.stream(["a", "b"], seeds=[7, 8], stream_tokens=True)
        events: list[Completion | TokenEvent] = [event async for event in received]
    for found in (events, await asyncio.to_thread(blocking)):
        first, second, *rest = found
        assert isinstance(first, TokenEvent)
        assert isinstance(second, TokenEvent)
        assert (second.prompt_index, second.tokens.tolist(), second.logprobs.tolist()) == (
            1,
            [1, 1],
            [-1, -1],
        )
        assert all(isinstance(event, Completion) for event in rest)


async def test_closing_a_stream_frees_the_server(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)

    def blocking() -> None:
        with PolicyClient(target(server)) as client:
            stream = client.stream(["a"], n=100_000, seeds=[7])
            next(stream)
            stream.close()

    await asyncio.to_thread(blocking)
    await asyncio.wait_for(echo.closed.wait(), 30)
    echo.closed.clear()
    async with AsyncPolicyClient(target(server)) as client:
        stream = client.stream(["a"], n=100_000, seeds=[7])
        await anext(stream)
        await stream.aclose()
        await asyncio.wait_for(echo.closed.wait(), 30)


async def test_logprobs_come_as_rows_with_their_version(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)

    def blocking() -> Any:
        with PolicyClient(target(server)) as client:
            return client.logprobs([[1, 2, 4], [6, 8]], [1, 1], temperature=2)

    async with AsyncPolicyClient(target(server)) as client:
        answers = [await client.logprobs([[1, 2, 4], [6, 8]], [1, 1], temperature=2)]
    for answer in [*answers, await asyncio.to_thread(blocking)]:
        assert [row.tolist() for row in answer.rows] == [[-1, -2], [-4]]
        assert (answer.epoch, answer.version) == (3, 4)


async def test_logprobs_of_texts_come_with_the_tokens_they_became(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)
    asked: Any = {"prompts": ["ab", "c"], "responses": ["d", "ef"], "temperature": 2}

    def blocking() -> list[Any]:
        with PolicyClient(target(server)) as client:
            return [client.logprobs(**asked), client.logprobs(**asked, unfinished=True)]

    async with AsyncPolicyClient(target(server)) as client:
        answers = [await client.logprobs(**asked), await client.logprobs(**asked, unfinished=True)]
    for ended, unfinished in (answers, await asyncio.to_thread(blocking)):
        assert [row.tolist() for row in ended.rows] == [[-50, -1], [-50.5, -51, -1]]
        assert [row.tolist() for row in unfinished.rows] == [[-50], [-50.5, -51]]
        assert [row.tolist() for row in ended.tokenised.sequences] == [[97, 98, 100, 2], [99, 101, 102, 2]]
        assert ended.tokenised.prompt_lengths == [2, 1]
        assert [row.tolist() for row in ended.tokenised.spans] == [[[0, 1], [1, 1]], [[0, 1], [1, 2], [2, 2]]]


@pytest.mark.parametrize("damage", ["forgets", "row", "prompt", "span"])
async def test_tokens_that_do_not_fit_the_texts_are_refused(serve: Serve, echo: Echo, damage: str) -> None:
    whole = echo.Logprobs

    async def damaged(request: Any, context: Any) -> Any:
        answer = await whole(request, context)
        if damage == "forgets":
            answer.ClearField("tokenised")
        else:
            answer.tokenised.CopyFrom(tokenise(request.texts, damage))
        return answer

    echo.Logprobs = damaged
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises((ProtocolError, InvalidTensorError)):
            await client.logprobs(prompts=["ab", "c"], responses=["d", "ef"])


@pytest.mark.parametrize("client", [PolicyClient, ReferenceClient])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sequences": [[1, 2]]},
        {"prompts": ["a"]},
        {"prompts": ["a"], "responses": []},
        {"prompts": "a", "responses": "b"},
        {"prompts": ["a"], "responses": [7]},
        {"prompts": ["a"], "responses": ["b"], "sequences": [[1, 2]], "prompt_lengths": [1]},
        {"prompts": ["a"], "responses": ["b"], "prompt_lengths": np.array([1])},
        {"sequences": [[1, 2]], "prompt_lengths": [1], "unfinished": True},
    ],
    ids=str,
)
def test_ambiguous_sequences_are_refused_before_the_call(client: Any, given: Any) -> None:
    with client("127.0.0.1:1") as opened, pytest.raises(InvalidRequestError):
        opened.logprobs(**given)


async def test_the_model_is_described(serve: Serve, echo: Echo) -> None:
    server = await serve(echo.add)

    def blocking() -> Any:
        with PolicyClient(target(server)) as client:
            return client.model()

    async with AsyncPolicyClient(target(server)) as client:
        described = await client.model()
    assert described == await asyncio.to_thread(blocking)
    assert (described.model, described.eos_token_ids) == ("echo", (2,))


def break_spans(completion: Any) -> None:
    del completion.version_spans[1]


def break_reason(completion: Any) -> None:
    completion.finish_reason = 0


def break_logprobs(completion: Any) -> None:
    completion.logprobs.CopyFrom(tensors.encode([-1.0], np.float32))


@pytest.mark.parametrize("damage", [break_spans, break_reason, break_logprobs])
async def test_a_completion_that_lacks_something_is_refused(
    serve: Serve, echo: Echo, damage: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = echo.Generate

    async def damaged(request: Any, context: Any) -> Any:
        async for answer in whole(request, context):
            damage(answer.completion)
            yield answer

    monkeypatch.setattr(echo, "Generate", damaged)
    async with AsyncPolicyClient(target(await serve(echo.add))) as client:
        with pytest.raises(ProtocolError):
            await client.generate(["a"], seeds=[7])
