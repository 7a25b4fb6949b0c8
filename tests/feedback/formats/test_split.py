from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feedback.formats.samples import PROMPTS

from pilothouse.feedback.formats.split import split_of
from pilothouse.feedback.records import PromptRecord


@settings(deadline=None)
@given(PROMPTS, st.integers(0, 100), st.integers(0, 100))
def test_a_prompt_held_out_at_one_share_is_held_out_at_every_larger_one(
    prompt: PromptRecord, one: int, other: int
) -> None:
    few, many = sorted((one, other))
    assert split_of(prompt, few) == "train" or split_of(prompt, many) == "held-out"
    assert split_of(prompt, 0) == "train"
    assert split_of(prompt, 100) == "held-out"


def test_the_share_is_kept_over_many_prompts() -> None:
    parts = [split_of(PromptRecord(text=f"Question {number}?"), 10) for number in range(10_000)]
    assert 900 < parts.count("held-out") < 1100


def test_the_part_follows_from_what_is_asked_and_from_nothing_else() -> None:
    text = PromptRecord(text="What colour is the sky?")
    same = PromptRecord(messages=(("user", text.text),), source="elsewhere", flagged=True)
    assert all(split_of(text, percent) == split_of(same, percent) for percent in range(101))


def test_the_parts_of_known_prompts_never_change() -> None:
    prompts = [PromptRecord(text=f"Question {number}?") for number in range(12)]
    held_out = [prompt.text for prompt in prompts if split_of(prompt, 25) == "held-out"]
    assert held_out == ["Question 3?", "Question 6?", "Question 9?"]
