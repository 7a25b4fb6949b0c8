"""A rollout batch keeps ragged rows together and refuses what cannot be true."""

import dataclasses
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.ppo.minibatches import micro_batches, minibatches


def test_selected_rows_keep_their_own_tokens(world: Any) -> None:
    batch = world.batch(world.learner())
    chosen = batch.select([5, 0, 3])
    assert chosen.sample_ids == ["sample-5", "sample-0", "sample-3"]
    for new, old in enumerate([5, 0, 3]):
        assert (chosen.sequences[new] == batch.sequences[old]).all()
        ours = chosen.behaviour_logprobs[chosen.offsets[new] : chosen.offsets[new + 1]]
        theirs = batch.behaviour_logprobs[batch.offsets[old] : batch.offsets[old + 1]]
        assert (ours == theirs).all()


def test_staleness_is_that_of_the_oldest_token(world: Any) -> None:
    batch = world.batch(world.learner())
    versions = np.full(len(batch.versions), 5)
    versions[batch.offsets[2]] = 3
    assert dataclasses.replace(batch, versions=versions).staleness(6).tolist() == [1, 1, 3, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", np.zeros(7, np.float32), "scores has 7 entries, expected 8"),
        ("scores", np.full(8, np.nan, np.float32), "NaN or infinity"),
        ("versions", np.zeros(3, np.int64), "versions has 3 entries"),
        ("prompt_lengths", np.zeros(8, np.int32), "at least one token"),
        ("prompt_lengths", np.full(8, 9, np.int32), "no padding"),
    ],
)
def test_a_batch_that_does_not_add_up_is_refused(world: Any, name: str, value: Any, message: str) -> None:
    batch = world.batch(world.learner())
    with pytest.raises(InvalidDataError, match=message):
        dataclasses.replace(batch, **{name: value})


@given(st.integers(1, 40), st.integers(1, 9))
def test_checklist_37_minibatches_cover_the_batch_and_are_reshuffled_every_epoch(
    rows: int, count: int
) -> None:
    generator = np.random.default_rng(0)
    epochs = [minibatches(generator, rows, count) for _ in range(3)]
    for epoch in epochs:
        assert sorted(chain.from_iterable(epoch)) == list(range(rows))
        assert len(epoch) == min(rows, count)
        assert max(map(len, epoch)) - min(map(len, epoch)) <= 1
    if rows > 20:
        assert epochs[0] != epochs[1] != epochs[2]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120))
@settings(deadline=None)
def test_micro_batches_cover_their_rows_within_the_budget(lengths: list[int], budget: int) -> None:
    rows = list(range(len(lengths)))
    lists = micro_batches(rows[::-1], lengths, budget)
    assert sorted(chain.from_iterable(lists)) == rows
    assert lists == micro_batches(rows, lengths, budget)
    for part in lists:
        assert len(part) == 1 or sum(lengths[row] for row in part) <= budget
