"""The weight transaction over gRPC: what is taken, what is refused by name, what serves on."""

import asyncio
import gc
import threading
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3
from prometheus_client import CollectorRegistry

from pilothouse import tensors
from pilothouse.errors import NonFiniteWeightsError
from pilothouse.models.decoder import DecoderWeights
from pilothouse.models.load import state_digest
from pilothouse.models.logprobs import response_logprobs
from pilothouse.models.spec import decoder_spec
from pilothouse.models.tiny import small_model
from pilothouse.policy.build import WeightBuild
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.manifest import Entry, Piece
from pilothouse.policy.metrics import PushMetrics
from pilothouse.policy.push import Served
from pilothouse.policy.requests import Version
from pilothouse.policy.sampling import Sampling
from pilothouse.policy.weights import WeightTransactions
from pilothouse.policy.weights_servicer import MAX_FETCHES, WeightsServicer
from pilothouse.v1 import policy_pb2, weights_pb2

from .conftest import generate
from .pushing import arrays_of, as_bfloat16, begin_request, chunks, payload, sign, state_of, stream
from .served import Service, reason_of, serving

PROBES = [np.array([5, 9, 77, 3], dtype=np.int32), np.array([8, 8], dtype=np.int32)]


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as service:
        yield service


def weights_of(arrays: dict[str, np.ndarray]) -> DecoderWeights:
    return DecoderWeights.from_state(decoder_spec(small_model("llama-tied").config), state_of(arrays))


async def refused(awaitable) -> tuple[grpc.StatusCode, str, str]:
    """Returns (code, reason, text) of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), reason_of(caught.value), caught.value.details() or ""


async def test_a_push_serves_new_weights_and_proves_it(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    answer = await service.push(arrays, probes=tensors.encode_sequences(PROBES))
    weights = weights_of(arrays)
    expected = response_logprobs(weights, PROBES, [1, 1]).numpy()
    proof = tensors.decode(answer.probe_logprobs, name="probes", dtype=np.float32, ndim=1)
    np.testing.assert_allclose(proof, expected, atol=1e-5)
    assert (answer.epoch, answer.version) == (1, 1)
    assert answer.digest.hex() == state_digest(arrays)
    model = await service.policy.GetModel(policy_pb2.GetModelRequest())
    assert (model.epoch, model.version, model.digest) == (1, 1, state_digest(arrays))
    entry = (await service.generate([PROBES[0]], max_new_tokens=10, ignore_eos=True))[0]
    whole = np.concatenate([PROBES[0], np.frombuffer(entry.tokens.data, np.int32)])
    expected = response_logprobs(weights, [whole], [4]).numpy()
    np.testing.assert_allclose(np.frombuffer(entry.logprobs.data, np.float32), expected, atol=1e-4)
    assert [(span.epoch, span.version, span.end) for span in entry.version_spans] == [(1, 1, 10)]


@pytest.mark.parametrize("architecture", ["llama-untied", "qwen3", "gemma3", "gpt2"])
async def test_every_architecture_takes_pushes(architecture: str, tmp_path) -> None:
    from pilothouse.models.tiny import save_tiny

    save_tiny(tmp_path / "model", 0, architecture)
    arrays = arrays_of(architecture, 4)
    async with serving(model=str(tmp_path / "model")) as service:
        answer = await service.push(arrays, probes=tensors.encode_sequences(PROBES))
    weights = DecoderWeights.from_state(decoder_spec(small_model(architecture).config), state_of(arrays))
    proof = tensors.decode(answer.probe_logprobs, name="probes", dtype=np.float32, ndim=1)
    np.testing.assert_allclose(proof, response_logprobs(weights, PROBES, [1, 1]).numpy(), atol=1e-5)


async def test_bfloat16_pushes_serve_the_rounded_weights(service: Service) -> None:
    rounded = as_bfloat16(arrays_of("llama-tied", 2))
    answer = await service.push(rounded, probes=tensors.encode_sequences(PROBES))
    expected = response_logprobs(weights_of(rounded), PROBES, [1, 1]).numpy()
    proof = tensors.decode(answer.probe_logprobs, name="probes", dtype=np.float32, ndim=1)
    np.testing.assert_allclose(proof, expected, atol=1e-5)


@pytest.mark.parametrize(
    "unchanged",
    [
        ("model.embed_tokens.weight",),
        ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight"),  # shares its memory with k and v
        ("model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.down_proj.weight"),  # and with up
        tuple(name for name in arrays_of("llama-tied", 0) if "layers.0" in name or "embed" in name),
    ],
)
async def test_unchanged_tensors_come_from_the_parent(service: Service, unchanged: tuple[str, ...]) -> None:
    first, second = arrays_of("llama-tied", 1), arrays_of("llama-tied", 2)
    await service.push(first)
    mixed = second | {name: first[name] for name in unchanged}
    answer = await service.push(
        mixed, version=2, parent=(1, 1), unchanged=unchanged, probes=tensors.encode_sequences(PROBES)
    )
    proof = tensors.decode(answer.probe_logprobs, name="probes", dtype=np.float32, ndim=1)
    np.testing.assert_allclose(proof, response_logprobs(weights_of(mixed), PROBES, [1, 1]).numpy(), atol=1e-5)


async def test_unchanged_tensors_must_be_those_of_the_serving_parent(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    await service.push(arrays)
    name = "model.norm.weight"
    later = {"version": 2, "unchanged": (name,)}
    code, reason, _ = await refused(service.push(arrays, parent=(1, 0), **later))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PARENT_MISMATCH")
    other = arrays | {name: arrays[name] + 1}
    code, reason, text = await refused(service.push(other, parent=(1, 1), **later))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PARENT_MISMATCH")
    assert name in text


async def test_an_upload_resumes_and_begin_and_commit_repeat(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    begin = begin_request(arrays)
    begun = await service.weights.BeginPush(begin)
    assert begun.next_offset == 0
    all_chunks = chunks(begun.push_id, payload(arrays))
    await service.weights.UploadPush(stream(all_chunks[:3]))
    progress = await service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id))
    assert (progress.next_offset, progress.committed) == (150_000, False)
    again = await service.weights.BeginPush(begin)
    assert (again.push_id, again.next_offset) == (begun.push_id, 150_000)
    commit = weights_pb2.CommitPushRequest(push_id=begun.push_id, probes=tensors.encode_sequences(PROBES))
    code, reason, text = await refused(service.weights.CommitPush(commit))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCOMPLETE_PUSH")
    assert "150000" in text
    rest = chunks(begun.push_id, payload(arrays), start=150_000)
    uploaded = await service.weights.UploadPush(stream(rest))
    assert uploaded.next_offset == progress.total_size_bytes
    answers = await asyncio.gather(service.weights.CommitPush(commit), service.weights.CommitPush(commit))
    assert answers[0] == answers[1] == await service.weights.CommitPush(commit)
    final = await service.weights.BeginPush(begin)
    assert (final.push_id, final.next_offset) == (begun.push_id, progress.total_size_bytes)
    assert (await service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id))).committed


async def test_older_epochs_and_versions_are_refused(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    await service.push(arrays, epoch=5, version=3)
    for epoch, version, expected in [(4, 9, "FENCED"), (5, 3, "STALE_VERSION"), (5, 2, "STALE_VERSION")]:
        code, reason, _ = await refused(
            service.push(arrays_of("llama-tied", 2), epoch=epoch, version=version)
        )
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, expected)
    await service.push(arrays, epoch=6, version=1)  # a resumed trainer may go back
    assert await service.version() == (6, 1)


async def test_a_newer_epoch_takes_over_an_open_push(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    zombie = await service.weights.BeginPush(begin_request(arrays, epoch=1))
    code, reason, _ = await refused(service.weights.BeginPush(begin_request(arrays, epoch=1, version=2)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PUSH_IN_PROGRESS")
    await service.weights.BeginPush(begin_request(arrays, epoch=2))
    for call in (
        service.weights.UploadPush(stream(chunks(zombie.push_id, payload(arrays)))),
        service.weights.CommitPush(weights_pb2.CommitPushRequest(push_id=zombie.push_id)),
        service.weights.BeginPush(begin_request(arrays, epoch=1)),
    ):
        code, reason, _text = await refused(call)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FENCED")
    assert await service.version() == (0, 0)


async def test_abort_frees_the_way_and_repeats(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    begun = await service.weights.BeginPush(begin_request(arrays))
    abort = weights_pb2.AbortPushRequest(push_id=begun.push_id)
    await service.weights.AbortPush(abort)
    await service.weights.AbortPush(abort)
    code, reason, _ = await refused(
        service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id))
    )
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    code, reason, _ = await refused(service.weights.AbortPush(weights_pb2.AbortPushRequest(push_id="none")))
    assert reason == "NOT_FOUND"
    await service.push(arrays)
    assert await service.version() == (1, 1)


async def test_an_abandoned_push_expires() -> None:
    async with serving(push_lease_seconds=0.2) as service:
        begun = await service.weights.BeginPush(begin_request(arrays_of("llama-tied", 1)))
        async with asyncio.timeout(20):
            while (
                service.registry.get_sample_value(
                    "pilothouse_weights_rejected_total", {"reason": "LEASE_EXPIRED"}
                )
                is None
            ):
                await asyncio.sleep(0.02)
        _, reason, text = await refused(
            service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id))
        )
        assert reason == "NOT_FOUND"
        assert "begin again" in text
        await service.push(arrays_of("llama-tied", 2), version=1)


async def test_ended_pushes_free_their_memory(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    builds: list[weakref.ref[WeightBuild]] = []
    prepare = WeightBuild.__init__

    def remembered(self: WeightBuild, *arguments: object) -> None:
        builds.append(weakref.ref(self))
        prepare(self, *arguments)

    monkeypatch.setattr(WeightBuild, "__init__", remembered)
    arrays = arrays_of("llama-tied", 1)
    data = payload(arrays)
    for epoch, size in enumerate(
        range(0, len(data), len(data) // 20), start=1
    ):  # each takes the last one over
        begun = await service.weights.BeginPush(begin_request(arrays, epoch=epoch))
        if size:
            await service.weights.UploadPush(stream(chunks(begun.push_id, data[:size])))
    await service.weights.AbortPush(weights_pb2.AbortPushRequest(push_id=begun.push_id))
    assert await service.version() == (0, 0)
    await service.push(arrays, epoch=100)
    gc.collect()
    assert len(builds) == epoch + 1
    assert all(build() is None for build in builds)


async def test_rollback_serves_the_weights_before(service: Service) -> None:
    _, reason, _ = await refused(service.weights.Rollback(weights_pb2.RollbackRequest()))
    assert reason == "NO_PREVIOUS_WEIGHTS"
    prompt = [np.array([5, 6, 7], dtype=np.int32)]
    before = await service.generate(prompt, temperature=0, max_new_tokens=8)
    await service.push(arrays_of("llama-tied", 1))
    during = await service.generate(prompt, temperature=0, max_new_tokens=8)
    back = await service.weights.Rollback(weights_pb2.RollbackRequest())
    assert (back.epoch, back.version) == (0, 0)
    after = await service.generate(prompt, temperature=0, max_new_tokens=8)
    assert before == after
    assert before[0].tokens != during[0].tokens
    _, reason, _ = await refused(service.weights.Rollback(weights_pb2.RollbackRequest()))
    assert reason == "NO_PREVIOUS_WEIGHTS"


def served(engine: PolicyEngine, version: int) -> Served:
    return Served(Version(1, version), engine.runner.weights, b"", defaultdict(bytes))


def transactions_of(engine: PolicyEngine, initial: Served) -> WeightTransactions:
    return WeightTransactions(
        engine,
        initial,
        fence=0,
        lease_seconds=60,
        keep_previous=True,
        kv_policy="keep",
        probe_tokens=64,
        metrics=PushMetrics(CollectorRegistry()),
    )


async def test_a_fetch_that_waits_for_its_turn_holds_on_to_nothing(tiny_engine: PolicyEngine) -> None:
    transactions = transactions_of(tiny_engine, served(tiny_engine, 1))
    limits: Any = None  # of probes
    servicer, context = WeightsServicer(transactions, limits, ""), None

    def fetch() -> Any:
        return servicer.FetchWeights(weights_pb2.FetchWeightsRequest(), context)

    running = [fetch() for _ in range(MAX_FETCHES)]
    assert [(await anext(each)).weights.version for each in running] == [1] * MAX_FETCHES
    waiting = fetch()
    head = asyncio.create_task(anext(waiting))
    await asyncio.sleep(0)  # it asks for its turn
    transactions.current = served(tiny_engine, 2)
    for each in running:
        await each.aclose()
    assert (await head).weights.version == 2
    await waiting.aclose()


async def test_a_rollback_whose_caller_leaves_is_carried_through(tiny_engine: PolicyEngine) -> None:
    transactions = transactions_of(tiny_engine, served(tiny_engine, 2))
    transactions._previous = served(tiny_engine, 1)
    busy, free = threading.Event(), threading.Event()

    def hold() -> Generator[None, None, None]:
        busy.set()
        free.wait(30)
        yield

    tiny_engine.in_pieces(hold())
    await asyncio.to_thread(busy.wait, 30)
    call = asyncio.create_task(transactions.rollback(None))
    await asyncio.sleep(0)  # lets it ask the engine, which is busy
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    free.set()
    (completion,) = await asyncio.to_thread(
        generate, tiny_engine, [np.array([5], dtype=np.int32)], Sampling(max_new_tokens=1)
    )
    assert completion.spans[0].version == transactions.current.version == Version(1, 1)


def broken_manifests() -> dict[str, weights_pb2.BeginPushRequest]:
    arrays = arrays_of("llama-tied", 1)
    name = "model.norm.weight"
    cases = {
        "missing tensor": begin_request({key: value for key, value in arrays.items() if key != name}),
        "unknown tensor": begin_request(arrays | {"extra.weight": arrays[name]}),
        "wrong shape": begin_request(arrays | {name: arrays[name].reshape(2, -1)}),
        "wrong dtype": begin_request(arrays | {name: arrays[name].astype(np.float64)}),
        "integer dtype": begin_request(arrays | {name: arrays[name].astype(np.int32)}),
    }
    for case in (
        "twice",
        "size",
        "total",
        "digest length",
        "root digest",
        "encoding",
        "huge shape",
        "header bomb",
    ):
        request = begin_request(arrays)
        entry = request.manifest.entries[-1]
        if case == "twice":
            request.manifest.entries.append(entry)
            sign(request.manifest)
        elif case == "size":
            entry.size_bytes += 4
            sign(request.manifest)
        elif case == "total":
            request.manifest.total_size_bytes += 1
        elif case == "digest length":
            entry.digest = entry.digest[:8]
            sign(request.manifest)
        elif case == "root digest":
            request.manifest.digest = bytes(32)
        elif case == "encoding":
            entry.encoding = weights_pb2.WEIGHT_ENCODING_UNSPECIFIED
        elif case == "huge shape":
            entry.shape[:] = [2**62, 2**62]
            entry.size_bytes = 2**62
            sign(request.manifest)
        else:
            request.manifest.entries.extend([entry] * 500)
        cases[case] = request
    for field, value in (("run", "../x"), ("run", ""), ("epoch", -1), ("version", -1)):
        request = begin_request(arrays)
        setattr(request, field, value)
        cases[f"{field} {value!r}"] = request
    return cases


async def test_manifests_that_do_not_fit_are_refused_by_name(service: Service) -> None:
    for case, request in broken_manifests().items():
        code, _, text = await refused(service.weights.BeginPush(request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, case
        assert len(text) > 20, case
        assert len(text) < 2500, case
    _, reason, text = await refused(service.weights.BeginPush(broken_manifests()["wrong shape"]))
    assert reason == "MANIFEST_MISMATCH"
    assert "model.norm.weight" in text
    assert await service.version() == (0, 0)
    await service.push(arrays_of("llama-tied", 1))


async def test_chunks_that_are_broken_are_refused_and_can_be_sent_again(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    begun = await service.weights.BeginPush(begin_request(arrays))
    data = payload(arrays)
    good = chunks(begun.push_id, data)

    def altered(index: int, **changes: object) -> list[weights_pb2.UploadPushRequest]:
        chunk = weights_pb2.UploadPushRequest()
        chunk.CopyFrom(good[index])
        chunk.push_id = begun.push_id
        for field, value in changes.items():
            setattr(chunk, field, value)
        return [chunk]

    flipped = bytearray(good[0].data)
    flipped[17] ^= 4
    cases = {
        "bit flip": (altered(0, data=bytes(flipped)), "CORRUPT_CHUNK"),
        "wrong crc": (altered(0, crc32=1), "CORRUPT_CHUNK"),
        "reordered": (altered(1), "INVALID_CHUNK"),
        "negative offset": (altered(0, offset=-5), "INVALID_CHUNK"),
        "far offset": (altered(0, offset=2**62), "INVALID_CHUNK"),
        "empty": (altered(0, data=b""), "INVALID_CHUNK"),
        "too large": (altered(0, data=bytes(2**20 + 1)), "INVALID_CHUNK"),
        "no push": (altered(0, push_id=""), "INVALID_CHUNK"),
    }
    for case, (requests, expected) in cases.items():
        code, reason, text = await refused(service.weights.UploadPush(stream(requests)))
        assert reason == expected, case
        wanted = (
            grpc.StatusCode.DATA_LOSS if expected == "CORRUPT_CHUNK" else grpc.StatusCode.INVALID_ARGUMENT
        )
        assert code is wanted, case
        if case in ("bit flip", "reordered"):
            assert "offset" in text, case
            assert "model." in text, case
    await service.weights.UploadPush(stream(good[:1]))
    _, reason, _ = await refused(service.weights.UploadPush(stream(altered(0))))  # a duplicate
    assert reason == "INVALID_CHUNK"
    await service.weights.UploadPush(stream(chunks(begun.push_id, data, start=50_000)))
    commit = weights_pb2.CommitPushRequest(push_id=begun.push_id)
    _, reason, _ = await refused(
        service.weights.UploadPush(stream(altered(0, offset=len(data))))
    )  # past the end
    assert reason == "INVALID_CHUNK"
    assert (await service.weights.CommitPush(commit)).version == 1


async def test_content_that_is_broken_is_refused_by_name_and_the_old_version_serves(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    prompt = [np.array([5, 6, 7], dtype=np.int32)]
    before = await service.generate(prompt, temperature=0, max_new_tokens=8)
    name = "model.layers.1.mlp.up_proj.weight"
    infinite, nan = (arrays | {name: arrays[name].copy()} for _ in range(2))
    infinite[name][3, 5] = np.inf
    nan[name][0, 0] = np.nan
    final, embedding = "model.norm.weight", "model.embed_tokens.weight"
    huge = arrays | {
        final: arrays[final] * 1e38,
        embedding: arrays[embedding] * 1e4,
    }  # finite, but not its logits
    nan_as_bfloat16 = {key: value.astype(ml_dtypes.bfloat16) for key, value in nan.items()}
    for bad in (infinite, nan, huge, nan_as_bfloat16):
        code, reason, text = await refused(service.push(bad))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NON_FINITE_WEIGHTS")
        assert bad is huge or name in text
    wrong = arrays | {name: arrays[name] + 1}
    begun = await service.weights.BeginPush(begin_request(arrays))

    async def upload_and_commit() -> None:
        await service.weights.UploadPush(stream(chunks(begun.push_id, payload(wrong))))
        await service.weights.CommitPush(weights_pb2.CommitPushRequest(push_id=begun.push_id))

    code, reason, text = await refused(upload_and_commit())
    assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_PUSH")
    assert name in text
    for call in (
        service.weights.CommitPush(weights_pb2.CommitPushRequest(push_id=begun.push_id)),
        service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id)),
    ):
        assert (await refused(call))[1] == "CORRUPT_PUSH"  # it stays what it was
    assert await service.version() == (0, 0)
    assert await service.generate(prompt, temperature=0, max_new_tokens=8) == before
    await service.push(arrays)
    assert await service.version() == (1, 1)


@pytest.mark.parametrize(
    "probes",
    [
        [np.array([5], dtype=np.int32)],
        [np.array([5, 512], dtype=np.int32)],
        [np.full(257, 5, dtype=np.int32)],
        [np.array([5, 6], dtype=np.int32)] * 65,
    ],
)
async def test_probes_that_cannot_be_scored_are_refused_before_the_swap(
    service: Service, probes: list[np.ndarray]
) -> None:
    code, _, _ = await refused(
        service.push(arrays_of("llama-tied", 1), probes=tensors.encode_sequences(probes))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert await service.version() == (0, 0)


async def test_random_flips_never_get_through(service: Service) -> None:
    arrays = arrays_of("llama-tied", 1)
    data = payload(arrays)
    begun = await service.weights.BeginPush(begin_request(arrays))
    random = np.random.default_rng(0)
    chunk = chunks(begun.push_id, data, size=20_000)[0]
    for _ in range(200):
        flipped = bytearray(chunk.data)
        flipped[random.integers(len(flipped))] ^= 1 << random.integers(8)
        bad = weights_pb2.UploadPushRequest(
            push_id=begun.push_id, offset=0, data=bytes(flipped), crc32=chunk.crc32
        )
        assert (await refused(service.weights.UploadPush(stream([bad]))))[1] == "CORRUPT_CHUNK"
    assert (await service.weights.GetPush(weights_pb2.GetPushRequest(push_id=begun.push_id))).next_offset == 0


def test_a_number_that_the_engine_cannot_hold_is_refused() -> None:
    arrays = arrays_of("llama-tied", 1)
    state = {name: tensor.half() for name, tensor in state_of(arrays).items()}
    build = WeightBuild(DecoderWeights.from_state(decoder_spec(small_model("llama-tied").config), state))
    name = "model.norm.weight"
    data = np.full(arrays[name].shape, 1e5, dtype=np.float32)
    entry = Entry(name, "float32", 4, data.shape, False, data.nbytes, blake3(data.tobytes()).digest())
    with pytest.raises(NonFiniteWeightsError):
        list(build.store(Piece(entry, 0, data.view(np.uint8), last=True)))
