import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pilothouse.trainer.data.records import read_rankings


@pytest.fixture
def preferences(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bench's module: the repository's root is not on the path of the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return importlib.import_module("bench.preferences")


def _conversation(prompt: str, score: int | None, *turns: str) -> dict[str, Any]:
    ratings = {} if score is None else dict.fromkeys(("witty", "interesting", "upbeat"), score)
    return {"prompt": prompt, "ratings": ratings, "messages": [[{"text": text}] for text in turns]}


def test_a_pair_is_two_conversations_of_one_opening_and_different_scores(
    preferences: ModuleType, tmp_path: Path
) -> None:
    conversations = [
        _conversation("Tea?", 9, "Yes,\n\nHuman: please", "Good", "Fine"),
        _conversation("Tea?", 2, "No", "Oh", "Well"),
        _conversation("Tea?", 9, "alike", "a", "b"),
        _conversation("Coffee?", 9, "another opening", "a", "b"),
        _conversation("Tea?", None, "not rated", "a", "b"),
        _conversation("Tea?", 1, "too short"),
    ]
    pairs = preferences.make_pairs(conversations, seed=0)
    assert len(pairs) == 1
    preferences.write_preferences(tmp_path, pairs * 2, held_out=1)
    (item,) = read_rankings(tmp_path / preferences.TRAINING)
    assert item.prompt == (("user", "Tea?"),)
    assert item.responses[0] in ("- Yes, Human: please\n- Good\n- Fine", "- alike\n- a\n- b")
    assert item.responses[1] == "- No\n- Oh\n- Well"
    assert read_rankings(tmp_path / preferences.HELD_OUT)[0].responses == item.responses


def test_no_conversation_is_used_twice_and_the_seed_decides(preferences: ModuleType) -> None:
    conversations = [_conversation("Tea?", 1 + index % 9, f"turn {index}", "a", "b") for index in range(60)]
    pairs = preferences.make_pairs(conversations, seed=1)
    sides = [side for pair in pairs for side in pair.values()]
    assert len(pairs) > 20
    assert len(set(sides)) == len(sides)
    assert pairs == preferences.make_pairs(conversations, seed=1)
    assert json.dumps(pairs) != json.dumps(preferences.make_pairs(conversations, seed=2))
