"""Live rows scored by a candidate too: figures as NumPy finds them, and callers who never notice."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reward.conftest import Both

from pilothouse.client import ShadowStatistics
from pilothouse.errors import QueueFullError, ScoringFailedError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.composite import Component, Scored
from pilothouse.reward.batch import Texts, TokenPairs, by_prompt
from pilothouse.reward.comparison import Comparison
from pilothouse.reward.config import ShadowConfig
from pilothouse.reward.scorer import Answer
from pilothouse.reward.shadow import Shadow
from pilothouse.tensors import Floats

Serving = Callable[..., AbstractAsyncContextManager[Both]]
SECONDS = 30.0
BATCHES = [
    (["A", "B", "A", "A"], [" one.", " two.", " three.", " four."]),
    (["A", "A"], [" five.", " six."]),
    (["C"], [" seven."]),
]


def on(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"backend": "torch", "model": str(folder / "a"), "models_folder": str(folder)} | settings


async def settled(service: Both, rows: int) -> ShadowStatistics:
    """Waits until so many rows have come to an end."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = (await service.models.candidate()).shadow
            if found.rows + found.dropped_rows + found.failed_rows == rows and not found.waiting_rows:
                return found
            await asyncio.sleep(0.01)


def agreement(serving: Sequence[float], candidate: Sequence[float]) -> tuple[int, float]:
    """Pairs and agreeing pairs, counted one by one."""
    pairs, agreed = 0, 0.0
    for i, j in combinations(range(len(serving)), 2):
        if serving[i] == serving[j]:
            continue
        pairs += 1
        if candidate[i] == candidate[j]:
            agreed += 0.5
        else:
            agreed += (serving[i] < serving[j]) == (candidate[i] < candidate[j])
    return pairs, agreed


async def test_shadow_statistics_are_what_numpy_says(models_folder: Path, both: Serving) -> None:
    differences, pairs, agreed = [], 0, 0.0
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        await service.models.stage("b")
        for prompts, responses in BATCHES:
            ours = (await service.score.score(prompts, responses)).values
            theirs = (await service.models.score_candidate(prompts, responses)).values
            differences.append(theirs.astype(np.float64) - ours)
            for prompt in set(prompts):
                rows = [row for row, own in enumerate(prompts) if own == prompt]
                more, same = agreement(ours[rows].tolist(), theirs[rows].tolist())
                pairs, agreed = pairs + more, agreed + same
        found = await settled(service, 7)
    joined = np.concatenate(differences)
    assert (found.rows, found.pairs, found.dropped_rows, found.failed_rows) == (7, pairs, 0, 0)
    assert pairs == 4
    assert found.mean_difference == pytest.approx(joined.mean(), abs=1e-6)
    assert found.std_difference == pytest.approx(joined.std(), abs=1e-6)
    assert found.max_absolute_difference == pytest.approx(np.abs(joined).max(), abs=1e-6)
    assert found.agreement == pytest.approx(agreed / pairs)


async def test_a_candidate_that_is_the_serving_model_agrees_about_tokens_too(
    models_folder: Path, both: Serving, codec: TextCodec
) -> None:
    rows = [codec.join("A film", text) for text in (" one.", " two and more.", " three")]
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        await service.models.stage("a")
        await service.score.score(
            sequences=[row.tokens for row in rows], prompt_lengths=[row.prompt_length for row in rows]
        )
        found = await settled(service, 3)
    assert (found.pairs, found.agreement) == (3, 1.0)
    assert found.max_absolute_difference < 1e-5


async def test_without_a_share_no_live_row_reaches_the_candidate(models_folder: Path, both: Serving) -> None:
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        for batch in BATCHES:
            await service.score.score(*batch)
        found = (await service.models.candidate()).shadow
    assert (found.rows, found.waiting_rows, found.dropped_rows) == (0, 0, 0)


async def test_rows_that_the_candidate_cannot_score_are_counted_and_their_callers_served(
    models_folder: Path, both: Serving
) -> None:
    ScalarModel.load(models_folder / "b").save(
        models_folder / "short", TextCodec.load("tiny"), max_sequence_tokens=64
    )
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        await service.models.stage("short")
        scores = await service.score.score(["A"], [" film" * 100])
        await service.score.score(["A"], [" film"])
        found = await settled(service, 2)
    assert len(scores.values) == 1
    assert (found.rows, found.failed_rows) == (1, 1)


async def test_a_rollback_begins_the_comparison_anew(models_folder: Path, both: Serving) -> None:
    async with both(**on(models_folder, shadow={"percent": 100})) as service:
        serving = (await service.score.model()).reward_version
        staged = await service.models.stage("b")
        await service.models.promote(staged.reward_version, expected_serving_version=serving)
        await service.models.stage("c")
        await service.score.score(*BATCHES[0])
        await settled(service, 4)
        await service.models.rollback()
        found = await service.models.candidate()
    assert found.serving_version == serving
    assert found.shadow.rows == 0


class Fake:
    """A candidate that can be held up or broken, and scores every row one above."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def score(self, read: Callable[[Any], Texts]) -> Answer:
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return answer(read(None), 1.0)


def answer(batch: Texts, add: float = 0.0) -> Answer:
    values = np.array([float(response) + add for response in batch.responses], np.float32)
    return Answer(batch, Scored(values, (Component("score", 1.0, values),)), "v")


def rows(*values: float, prompt: str = "p") -> Texts:
    return Texts([prompt] * len(values), [str(value) for value in values])


def shadow(fake: Fake, **config: Any) -> Shadow:
    settings = ShadowConfig(**({"percent": 100.0} | config))
    return Shadow(fake, settings, chance=random.Random(7))  # type: ignore[arg-type]


async def test_rows_beyond_the_bound_are_dropped_and_counted() -> None:
    fake = Fake()
    own = shadow(fake, max_waiting_rows=5)
    for _ in range(4):
        own.offer(answer(rows(1, 2)))
    assert (own.waiting_rows, own.dropped_rows) == (4, 4)
    fake.open.set()
    while own.waiting_rows:
        await asyncio.sleep(0)
    assert (own.comparison.rows, own.comparison.mean) == (4, 1.0)
    own.offer(answer(rows(1, 2, 3, 4, 5, 6)))
    assert own.dropped_rows == 10
    await own.close()


@pytest.mark.parametrize(
    ("failure", "dropped", "failed"),
    [(ScoringFailedError("broken"), 0, 2), (RuntimeError("broken"), 0, 2), (QueueFullError("full"), 2, 0)],
)
async def test_whatever_befalls_the_candidate_the_next_rows_are_compared(
    failure: Exception, dropped: int, failed: int
) -> None:
    fake = Fake()
    own = shadow(fake)
    fake.failure = failure
    fake.open.set()
    own.offer(answer(rows(1, 2)))
    while own.waiting_rows:
        await asyncio.sleep(0)
    fake.failure = None
    own.offer(answer(rows(3)))
    while own.waiting_rows:
        await asyncio.sleep(0)
    assert (own.dropped_rows, own.failed_rows, own.comparison.rows) == (dropped, failed, 1)
    await own.close()


async def test_rows_with_one_prompt_are_chosen_together_and_to_the_configured_share() -> None:
    fake = Fake()
    own = shadow(fake, percent=25, max_waiting_rows=10_000)
    prompts = [f"p{number % 1000}" for number in range(3000)]
    own.offer(answer(Texts(prompts, ["1"] * 3000)))
    assert own.waiting_rows == pytest.approx(750, abs=120)  # three standard deviations
    assert own.waiting_rows % 3 == 0
    assert all(len(group) == 3 for group in own._jobs[0].groups)
    assert sorted(row for group in own._jobs[0].groups for row in group) == list(range(own.waiting_rows))
    await own.close()
    assert own.waiting_rows == 0


def test_rows_are_grouped_by_prompt_whatever_their_kind() -> None:
    assert by_prompt(Texts(["a", "b", "a"], ["1", "2", "3"])) == [[0, 2], [1]]
    sequences = [np.array(row, np.int32) for row in ([1, 2, 3], [1, 5], [1, 2, 4], [1, 2])]
    batch = TokenPairs(sequences, [2, 1, 2, 1])
    assert by_prompt(batch) == [[0, 2], [1, 3]]
    assert [row.tolist() for row in batch.rows([1, 3]).sequences] == [[1, 5], [1, 2]]


Scores = st.lists(st.integers(-3, 3), min_size=1, max_size=8)


@given(batches=st.lists(st.lists(st.tuples(Scores, Scores), min_size=1, max_size=4), min_size=1, max_size=4))
def test_batches_add_up_to_the_figures_of_all_rows(
    batches: list[list[tuple[list[int], list[int]]]],
) -> None:
    comparison, differences, pairs, agreed = Comparison(), [], 0, 0.0
    for batch in batches:
        serving, candidate, groups = [], [], []
        for ours, theirs in batch:
            size = min(len(ours), len(theirs))
            groups.append(list(range(len(serving), len(serving) + size)))
            serving += ours[:size]
            candidate += theirs[:size]
            more, same = agreement(ours[:size], theirs[:size])
            pairs, agreed = pairs + more, agreed + same
        comparison = comparison.with_batch(floats(serving), floats(candidate), groups)
        differences += [theirs - ours for ours, theirs in zip(serving, candidate, strict=True)]
    assert comparison.rows == len(differences)
    assert comparison.mean == pytest.approx(np.mean(differences), abs=1e-9)
    assert comparison.std == pytest.approx(np.std(differences), abs=1e-9)
    assert comparison.largest == np.abs(differences).max()
    assert (comparison.pairs, comparison.agreed) == (pairs, agreed)
    assert comparison.agreement == (agreed / pairs if pairs else 0.0)


def floats(values: Sequence[int]) -> Floats:
    return np.array(values, np.float32)
