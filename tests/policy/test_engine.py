"""The engine against transformers and against itself."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pilothouse.errors import GenerationFailedError, QueueFullError, UnavailableError
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.logprobs import response_logprobs
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.requests import Completed, Update, Version
from pilothouse.policy.sampling import Sampling
from pilothouse.tensors import Tokens

from .conftest import (
    ARCHITECTURES,
    engine_weights,
    generate,
    make_engine,
    model_of,
    random_prompts,
    request_of,
)

EOS = 2


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(architecture: str) -> Iterator[PolicyEngine]:
    engine = make_engine(engine_weights(model_of(architecture)), slots=6, prefill_tokens=40)
    engine.start()
    yield engine
    engine.close()


def greedy_of_transformers(architecture: str, prompt: Tokens, new_tokens: int) -> list[int]:
    output = model_of(architecture).generate(
        torch.tensor(prompt, dtype=torch.long)[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


def plain_logprobs(weights: DecoderWeights, prompt: Tokens, completed: Completed, temperature: float = 1.0):
    whole = np.concatenate([prompt, completed.tokens])
    return response_logprobs(weights, [whole], [len(prompt)], temperature=temperature).numpy()


def test_greedy_equals_transformers_for_ragged_prompts_that_join_and_leave(
    engine: PolicyEngine, architecture: str
) -> None:
    prompts = random_prompts(14, longest=40)
    limits = [3 + 5 * (index % 6) for index in range(len(prompts))]
    waiting = []
    for prompt, limit in zip(prompts, limits, strict=True):  # each its own call: they join one another
        request, collector = request_of(
            [prompt], Sampling(temperature=0, max_new_tokens=limit, stop_ids=(EOS,))
        )
        engine.submit(request)
        waiting.append(collector)
    for prompt, limit, collector in zip(prompts, limits, waiting, strict=True):
        completed = collector.result()[0]
        assert completed.tokens.tolist() == greedy_of_transformers(architecture, prompt, limit)
        np.testing.assert_allclose(
            completed.logprobs, plain_logprobs(engine.runner.weights, prompt, completed), atol=1e-4
        )


def test_logprobs_equal_a_plain_forward_after_temperature_and_before_cuts(engine: PolicyEngine) -> None:
    prompts = random_prompts(6, seed=1)
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.8, max_new_tokens=16)
    for prompt, completed in zip(prompts, generate(engine, prompts, sampling), strict=True):
        expected = plain_logprobs(engine.runner.weights, prompt, completed, temperature=0.7)
        np.testing.assert_allclose(completed.logprobs, expected, atol=1e-4)


def test_a_seeded_request_gives_the_same_alone_and_in_a_crowd(tiny_engine: PolicyEngine) -> None:
    prompts = random_prompts(20, seed=2)
    sampling = Sampling(max_new_tokens=64)
    alone = [
        generate(tiny_engine, [prompt], sampling, n=8, seeds=[seed]) for seed, prompt in enumerate(prompts)
    ]
    crowd, collectors = [], []
    for seed, prompt in enumerate(prompts):
        request, collector = request_of([prompt], sampling, n=8, seeds=[seed])
        tiny_engine.submit(request)
        collectors.append(collector)
        crowd.append(random_prompts(3, seed=100 + seed))
        noise, _ = request_of(crowd[-1], Sampling(max_new_tokens=1 + seed, temperature=2.0), seeds=[7, 8, 9])
        tiny_engine.submit(noise)
    counted = 0
    for before, collector in zip(alone, collectors, strict=True):
        for one, other in zip(before, collector.result(), strict=True):
            np.testing.assert_array_equal(one.tokens, other.tokens)
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
            counted += len(one.tokens)
    assert counted >= 10_000


@pytest.mark.parametrize("new_tokens", [2, 30])
def test_logprobs_are_right_where_rows_become_equally_long_and_ragged_again(
    engine: PolicyEngine, new_tokens: int
) -> None:
    """A decode step masks nothing where all see all: inside a window (of 6 here) and across its edge."""
    prompt, shorter = (np.arange(10, 10 + length, dtype=np.int32) for length in (4, 3))
    long, alike = request_of([prompt], Sampling(max_new_tokens=new_tokens), n=3)
    ragged, leaver = request_of([shorter], Sampling(max_new_tokens=new_tokens // 2))
    engine.submit(long)
    engine.submit(ragged)
    for tokens, collector in ((prompt, alike), (shorter, leaver)):
        for entry in collector.result():
            plain = plain_logprobs(engine.runner.weights, tokens, entry)
            np.testing.assert_allclose(entry.logprobs, plain, atol=1e-4)


def test_samples_of_one_prompt_differ_and_compute_the_prompt_once(
    tiny_engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    prefill = tiny_engine.runner._prefill
    monkeypatch.setattr(
        tiny_engine.runner, "_prefill", lambda prompts: (computed.append(len(prompts)), prefill(prompts))
    )
    prompt = random_prompts(1, seed=3)[0]
    completions = generate(
        tiny_engine, [prompt], Sampling(max_new_tokens=12), n=30
    )  # more than there are slots
    assert computed == [1]
    assert len({tuple(entry.tokens) for entry in completions}) == 30
    for entry in completions:
        np.testing.assert_allclose(
            entry.logprobs, plain_logprobs(tiny_engine.runner.weights, prompt, entry), atol=1e-4
        )


def test_streamed_tokens_are_those_of_the_completion(tiny_engine: PolicyEngine) -> None:
    request, collector = request_of(random_prompts(2), Sampling(max_new_tokens=9), n=2, stream=True)
    tiny_engine.submit(request)
    for entry in collector.result():
        mine = [
            new
            for new in collector.tokens
            if (new.prompt_index, new.sample_index) == (entry.prompt_index, entry.sample_index)
        ]
        assert [new.token for new in mine] == entry.tokens.tolist()
        assert [new.logprob for new in mine] == entry.logprobs.tolist()


def test_cancelling_frees_the_slot_before_the_next_decode_step(tiny_engine: PolicyEngine) -> None:
    order: list[str] = []
    started = threading.Event()
    first, first_collector = request_of(
        random_prompts(8), Sampling(max_new_tokens=200), stream=True, on_update=lambda _: started.set()
    )
    tiny_engine.submit(first)  # takes all slots
    assert started.wait(30)
    second, second_collector = request_of(
        random_prompts(1), Sampling(max_new_tokens=1), on_update=lambda _: order.append("second")
    )
    steps = len(first_collector.tokens)
    tiny_engine.cancel(first)
    tiny_engine.submit(second)
    second_collector.result()
    assert order == ["second"]
    assert not first_collector.completed
    assert len(first_collector.tokens) <= steps + 2 * 8  # at most the step under way and one being delivered
    assert generate(tiny_engine, random_prompts(1), Sampling(max_new_tokens=2))


def test_a_full_queue_refuses_whole_requests_with_a_hint() -> None:
    engine = make_engine(engine_weights(model_of("llama-tied")), slots=1, max_waiting=3)
    request, _ = request_of(random_prompts(2), Sampling())
    engine.submit(request)  # not started: nothing leaves the queue
    refused, _ = request_of(random_prompts(2), Sampling())
    with pytest.raises(QueueFullError, match="retry") as caught:
        engine.submit(refused)
    assert caught.value.retry_after_seconds is not None
    fitting, _ = request_of(random_prompts(1), Sampling())
    engine.submit(fitting)


def test_stop_ids_end_a_completion_and_belong_to_it(tiny_engine: PolicyEngine) -> None:
    prompt = random_prompts(1, seed=5)[0]
    free = generate(tiny_engine, [prompt], Sampling(max_new_tokens=20), seeds=[1])[0]
    stop = int(free.tokens[7])
    first = free.tokens.tolist().index(stop)
    stopped = generate(tiny_engine, [prompt], Sampling(max_new_tokens=20, stop_ids=(stop,)), seeds=[1])[0]
    assert stopped.tokens.tolist() == free.tokens.tolist()[: first + 1]
    assert stopped.reason == "stop_token"
    assert free.reason == "length"


def test_no_stop_token_is_sampled_before_the_minimum(tiny_engine: PolicyEngine) -> None:
    stops = tuple(range(256))  # half of the vocabulary
    prompts = random_prompts(16, seed=6)
    for temperature in (0.0, 1.0):
        sampling = Sampling(min_new_tokens=5, max_new_tokens=12, stop_ids=stops, temperature=temperature)
        for prompt, entry in zip(prompts, generate(tiny_engine, prompts, sampling), strict=True):
            assert all(token not in stops for token in entry.tokens[:5].tolist())
            assert len(entry.tokens) > 5
            expected = plain_logprobs(tiny_engine.runner.weights, prompt, entry, temperature or 1.0)
            np.testing.assert_allclose(entry.logprobs, expected, atol=1e-4)


def test_a_completion_ends_where_the_context_is_full(tiny_engine: PolicyEngine) -> None:
    prompt = np.arange(3, 253, dtype=np.int32)  # 250 of 256 positions
    entry = generate(tiny_engine, [prompt], Sampling(max_new_tokens=50))[0]
    assert len(entry.tokens) == 6
    assert entry.reason == "length"


def test_a_request_that_fails_leaves_the_others_alone(tiny_engine: PolicyEngine) -> None:
    def broken() -> object:
        def stop(token: int) -> bool:
            raise RuntimeError("cannot decode")

        return stop

    prompts = random_prompts(4, seed=8)
    expected = generate(tiny_engine, prompts, Sampling(max_new_tokens=30))
    good, good_collector = request_of(prompts, Sampling(max_new_tokens=30))
    bad, bad_collector = request_of(random_prompts(2), Sampling(max_new_tokens=30), stop=broken)
    tiny_engine.submit(good)
    tiny_engine.submit(bad)
    with pytest.raises(GenerationFailedError):
        bad_collector.result()
    for one, other in zip(expected, good_collector.result(), strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_a_prompt_that_cannot_be_computed_fails_alone(
    tiny_engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = tiny_engine.runner._prefill

    def picky(prompts: list) -> None:
        if any(prompt.tokens[0] == 511 for prompt in prompts):
            raise RuntimeError("out of memory")
        prefill(prompts)

    monkeypatch.setattr(tiny_engine.runner, "_prefill", picky)
    good, good_collector = request_of(random_prompts(2), Sampling(max_new_tokens=5))
    bad, bad_collector = request_of([np.array([511], dtype=np.int32)], Sampling(max_new_tokens=5))
    with tiny_engine._wake:  # both in one admission
        tiny_engine.submit(bad)
        tiny_engine.submit(good)
    with pytest.raises(GenerationFailedError):
        bad_collector.result()
    assert len(good_collector.result()) == 2


def test_a_listener_that_fails_is_cancelled(tiny_engine: PolicyEngine) -> None:
    def fail(update: Update) -> None:
        raise RuntimeError("gone")

    request, collector = request_of(
        random_prompts(1), Sampling(max_new_tokens=200), stream=True, on_update=fail
    )
    tiny_engine.submit(request)
    assert generate(tiny_engine, random_prompts(3), Sampling(max_new_tokens=5))
    assert not collector.completed


def test_non_finite_logits_fail_the_request_and_spare_the_slot(tiny_engine: PolicyEngine) -> None:
    good = tiny_engine.runner.weights
    prompts = random_prompts(3, seed=9)
    expected = generate(tiny_engine, prompts, Sampling(max_new_tokens=10))
    embedding = good.embedding.detach().clone()
    embedding[500] = float("inf")
    state = {name: tensor.detach() for name, tensor in model_of("llama-tied").named_parameters()}
    state["model.embed_tokens.weight"] = embedding
    broken = DecoderWeights.from_state(good.spec, state)
    tiny_engine.swap(broken, Version(1, 1), recompute=False).result(30)
    with pytest.raises(GenerationFailedError, match="finite"):
        generate(tiny_engine, [np.array([500, 500], dtype=np.int32)], Sampling(max_new_tokens=10))
    tiny_engine.swap(good, Version(1, 2), recompute=False).result(30)
    for one, other in zip(expected, generate(tiny_engine, prompts, Sampling(max_new_tokens=10)), strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_non_finite_logits_of_several_samples_spare_all_their_slots(tiny_engine: PolicyEngine) -> None:
    good = tiny_engine.runner.weights
    short = random_prompts(1, seed=9)[0][:2]
    prompts = [short, np.full(30, 5, dtype=np.int32), np.full(2, 6, dtype=np.int32)]
    expected = generate(tiny_engine, prompts, Sampling(max_new_tokens=4))
    embedding = good.embedding.detach().clone()
    embedding[500] = float("inf")
    state = {name: tensor.detach() for name, tensor in model_of("llama-tied").named_parameters()}
    state["model.embed_tokens.weight"] = embedding
    tiny_engine.swap(DecoderWeights.from_state(good.spec, state), Version(1, 1), recompute=False).result(30)
    sick = np.full(20, 500, dtype=np.int32)
    with pytest.raises(GenerationFailedError, match="finite"):
        generate(tiny_engine, [sick], Sampling(max_new_tokens=10), n=4)
    tiny_engine.swap(good, Version(1, 2), recompute=False).result(30)
    for one, other in zip(expected, generate(tiny_engine, prompts, Sampling(max_new_tokens=4)), strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_a_crash_ends_the_engine_and_every_request(
    tiny_engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(running: list) -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(tiny_engine.runner, "decode", crash)
    request, collector = request_of(random_prompts(2), Sampling(max_new_tokens=5))
    tiny_engine.submit(request)
    with pytest.raises(UnavailableError):
        collector.result()
    assert isinstance(tiny_engine.stopped.exception(30), RuntimeError)
    with pytest.raises(UnavailableError):
        tiny_engine.submit(request_of(random_prompts(1), Sampling())[0])
