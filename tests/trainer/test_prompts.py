import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.data.encode import EncodedPrompt
from pilothouse.trainer.prompts import Draw, PromptCursor, sampling_seed


def prompts(count: int) -> list[EncodedPrompt]:
    return [EncodedPrompt(f"p{row}", np.array([row + 3, 5], dtype=np.int32)) for row in range(count)]


def told(draws: list[Draw]) -> list[tuple[int, str, list[int], int]]:
    return [(draw.number, draw.prompt.id, draw.tokens.tolist(), draw.seed) for draw in draws]


def test_every_pass_draws_each_prompt_once_in_another_order() -> None:
    cursor = PromptCursor(prompts(20), seed=1)
    passes = [[draw.prompt.id for draw in cursor.draw(20)] for _ in range(3)]
    assert all(sorted(names) == sorted(f"p{row}" for row in range(20)) for names in passes)
    assert len({tuple(names) for names in passes}) == 3


@given(splits=st.lists(st.integers(1, 9), max_size=12))
def test_draws_do_not_depend_on_how_they_are_grouped(splits: list[int]) -> None:
    one, many = PromptCursor(prompts(7), seed=3), PromptCursor(prompts(7), seed=3)
    together = one.draw(sum(splits))
    apart = [draw for count in splits for draw in many.draw(count)]
    assert told(together) == told(apart)


def test_a_restored_cursor_draws_what_would_have_come_next() -> None:
    cursor = PromptCursor(prompts(7), seed=3)
    cursor.draw(10)
    state = cursor.state()
    expected = cursor.draw(10)
    other = PromptCursor(prompts(7), seed=3)
    other.load_state(state)
    assert told(other.draw(10)) == told(expected)


def test_a_prompt_of_one_token_makes_a_probe_too() -> None:
    rows = [np.array(row, np.int32) for row in ([5], [6, 7], [8, 9])]
    found = PromptCursor([EncodedPrompt(str(row), row) for row in rows], seed=3).probes(2, eos_id=2)
    assert [row.tolist() for row in found] == [[5, 2], [6, 7]]
    assert all(row.dtype == np.int32 for row in found)


def test_sampling_seeds_differ_by_draw_and_run_and_fit_into_int64() -> None:
    seeds = {sampling_seed(run, draw) for run in range(20) for draw in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_sample_ids_name_the_draw() -> None:
    draw = PromptCursor(prompts(3), seed=0).draw(2)[1]
    assert draw.sample_ids(2) == ["00000001.0", "00000001.1"]


def test_no_prompts_is_an_error() -> None:
    with pytest.raises(InvalidDataError, match="no prompts"):
        PromptCursor([], seed=0)
