"""Promotions under load: no request is dropped, refused or scored by two models."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from prometheus_client import REGISTRY
from tests.reward.conftest import Both
from tests.reward.test_shadow import SECONDS, settled
from tests.reward.test_v2 import text_input

from pilothouse.client import AsyncRewardClient, AsyncRewardModelsClient
from pilothouse.config import parse
from pilothouse.models.reward_files import read_manifest
from pilothouse.reward.backends.base import Row
from pilothouse.reward.backends.torch import TorchBackend
from pilothouse.reward.build import build
from pilothouse.reward.config import RewardConfig
from pilothouse.tensors import Floats

Serving = Callable[..., AbstractAsyncContextManager[Both]]

STAGED = [("b",), ("o",), ("a", "c"), ("c",), ("a",)]
PROMOTIONS = 20
WORKERS = 6
REQUESTS = [
    (["The film was"] * 3, [" great.", " bad.", " long and boring."]),
    ([""], ["so good"]),
    (["A", "B", "A"] * 4, [f" movie {number}." for number in range(12)]),
]
ALONE = {"across_requests": False}  # a request's batches, and so its bits, follow from the request alone


def on(folder: Path, **settings: Any) -> dict[str, Any]:
    start = {"backend": "torch", "model": str(folder / "a"), "models_folder": str(folder), "batching": ALONE}
    return start | {"threads": 1} | settings


async def oracles(folder: Path, both: Serving) -> dict[str, list[Floats]]:
    """Version -> scores of every request, by a service of its own."""
    found = {}
    async with both(**on(folder)) as service:
        for folders in STAGED:
            staged = await service.models.stage(*folders)
            found[staged.reward_version] = [
                (await service.models.score_candidate(*request)).values for request in REQUESTS
            ]
            await service.models.drop()
    return found


async def hammer(
    client: AsyncRewardClient, expected: dict[str, list[Floats]], end: asyncio.Event
) -> set[str]:
    """Scores until the end and returns the versions that answered; every answer is checked to the bit."""
    seen = set()
    while not end.is_set():
        for number, request in enumerate(REQUESTS):
            scores = await client.score(*request)
            np.testing.assert_array_equal(scores.values, expected[scores.reward_version][number])
            seen.add(scores.reward_version)
    return seen


@asynccontextmanager
async def hammered(service: Both, expected: dict[str, list[Floats]]) -> AsyncIterator[list[set[str]]]:
    """Many callers at once; what they saw is in the list once they have ended."""
    end, seen = asyncio.Event(), []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hammer(service.score, expected, end)) for _ in range(WORKERS)]
        yield seen
        end.set()
    seen += [task.result() for task in tasks]


@pytest.mark.parametrize("keep_previous", [True, False])
async def test_no_request_notices_twenty_promotions(
    keep_previous: bool, models_folder: Path, both: Serving
) -> None:
    expected = await oracles(models_folder, both)
    async with both(**on(models_folder, keep_previous=keep_previous, shadow={"percent": 50})) as service:
        serving = (await service.score.model()).reward_version
        async with hammered(service, expected) as seen:
            for number in range(PROMOTIONS):
                staged = await service.models.stage(*STAGED[number % len(STAGED)])
                promoted = await service.models.promote(
                    staged.reward_version, expected_serving_version=serving
                )
                serving = promoted.reward_version
                if number % 7 == 6 and keep_previous:
                    serving = (await service.models.rollback()).reward_version
                assert (await service.score.score(*REQUESTS[0])).reward_version == serving
        assert all(seen)
        assert ((await service.models.models()).previous is not None) == keep_previous


class Hold:
    """Holds up, once it is closed, whatever the model of one version scores."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        self.closed, self.entered, self.open = threading.Event(), threading.Event(), threading.Event()
        score = TorchBackend.score

        def held(backend: TorchBackend, rows: Sequence[Row]) -> Floats:
            if self.closed.is_set() and backend.version == version:
                self.entered.set()
                self.open.wait()
            return score(backend, rows)

        monkeypatch.setattr(TorchBackend, "score", held)


async def test_a_request_that_began_before_a_promotion_ends_on_the_old_model(
    models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of its batches have not begun when the next model serves; all of them are the old one's."""
    prompts, responses = ["The film"] * 50, [f" number {number} was good." for number in range(50)]
    first = read_manifest(models_folder / "a").version
    hold = Hold(monkeypatch, first)
    small = {"batching": ALONE | {"max_rows": 8}, "keep_previous": False}
    async with both(**on(models_folder, **small)) as service:
        old = await service.score.score(prompts, responses)
        staged = await service.models.stage("b")
        hold.closed.set()
        running = asyncio.create_task(service.score.score(prompts, responses))
        await asyncio.to_thread(hold.entered.wait)
        await service.models.promote(staged.reward_version, expected_serving_version=first)
        new = await service.score.score(prompts[:1], responses[:1])
        assert not running.done()
        hold.open.set()
        scores = await running
    assert new.reward_version == staged.reward_version
    assert scores.reward_version == old.reward_version == first
    np.testing.assert_array_equal(scores.values, old.values)


async def test_rows_of_the_old_model_are_not_compared_with_the_next_candidate(
    models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next candidate is compared with what serves, and a request may outlast a promotion."""
    first = read_manifest(models_folder / "a").version
    hold = Hold(monkeypatch, first)
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        staged = await service.models.stage("b")
        hold.closed.set()
        running = asyncio.create_task(service.score.score(*REQUESTS[0]))
        await asyncio.to_thread(hold.entered.wait)
        await service.models.promote(staged.reward_version, expected_serving_version=first)
        await service.models.stage("c")
        hold.open.set()
        assert (await running).reward_version == first
        before = (await service.models.candidate()).shadow
        assert before.rows == before.waiting_rows == 0
        await service.score.score(*REQUESTS[1])
        found = await settled(service, 1)
    assert found.rows == 1


async def test_rows_that_wait_for_a_candidate_are_forgotten_when_it_is_promoted(
    models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, candidate = (read_manifest(models_folder / name).version for name in "ab")
    hold = Hold(monkeypatch, candidate)
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        await service.models.stage("b")
        hold.closed.set()
        await service.score.score(*REQUESTS[0])
        await asyncio.to_thread(hold.entered.wait)
        assert (await service.models.candidate()).shadow.waiting_rows == 3
        await service.models.promote(candidate, expected_serving_version=first)
        waiting = REGISTRY.get_sample_value("pilothouse_reward_shadow_waiting_rows")
        hold.open.set()
    assert waiting == 0


@pytest.mark.parametrize("keep_previous", [True, False])
async def test_a_replaced_model_is_freed_unless_it_is_the_previous_one_that_is_kept(
    keep_previous: bool, models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = (read_manifest(models_folder / name).version for name in "abc")
    freed: list[str] = []
    close = TorchBackend.close
    monkeypatch.setattr(TorchBackend, "close", lambda self: (freed.append(self.version), close(self)))

    async def until_freed(*versions: str) -> None:
        async with asyncio.timeout(SECONDS):
            while freed != [*versions]:
                await asyncio.sleep(0.01)

    async with both(**on(models_folder, keep_previous=keep_previous)) as service:
        for name, serving in (("b", a), ("c", b)):
            staged = await service.models.stage(name)
            await service.models.promote(staged.reward_version, expected_serving_version=serving)
        if keep_previous:
            await until_freed(a)
            await service.models.rollback()
            assert (await service.score.score(*REQUESTS[0])).reward_version == b
            await until_freed(a, c)
        else:
            await until_freed(a, b)
            assert (await service.score.score(*REQUESTS[0])).reward_version == c


async def test_clients_of_the_open_inference_protocol_follow_a_promotion(models_folder: Path) -> None:
    config = parse(RewardConfig, on(models_folder, server={"http_port": -1}), section="reward")

    def infer(port: int, version: str = "") -> triton.InferResult:
        prompts, responses = REQUESTS[0]
        inputs = [text_input("prompt", prompts, [3]), text_input("response", responses, [3])]
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_model_ready("reward", version)
            assert client.get_model_metadata("reward").platform.startswith("pilothouse_")
            return client.infer("reward", inputs, model_version=version)

    async with build(config) as servers:
        for server in servers:
            await server.start()
        score, models = (server.port for server in servers)
        async with AsyncRewardModelsClient(f"127.0.0.1:{models}") as client:
            serving = (await client.models()).serving.reward_version
            assert (await asyncio.to_thread(infer, score)).get_response().model_version == serving
            staged = await client.stage("o")
            expected = (await client.score_candidate(*REQUESTS[0])).values
            await client.promote(staged.reward_version, expected_serving_version=serving)
        answer = await asyncio.to_thread(infer, score, staged.reward_version)
        for server in servers:
            await server.abort()
    np.testing.assert_array_equal(answer.as_numpy("score"), expected)
    assert answer.get_response().model_version == staged.reward_version
