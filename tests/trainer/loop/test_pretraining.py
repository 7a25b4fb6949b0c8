import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.errors import ConfigError, DivergedRunError
from pilothouse.models.text import TextCodec
from pilothouse.trainer.pretraining import Pretraining


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    words = ["good", "bad", "great", "dull", "fun"]
    file.write_text("".join(json.dumps({"text": f"the film was {word}"}) + "\n" for word in words))
    return file


def test_a_steps_texts_follow_from_the_step_alone(config: Any, texts: Path) -> None:
    settings = config(pretraining={"texts": [texts], "texts_per_step": 3})
    codec = TextCodec.load("tiny")
    one, other = Pretraining.load(settings, codec), Pretraining.load(settings, codec)
    forwards = [[row.tolist() for row in one.of_step(step)] for step in (1, 2, 3)]
    assert [[row.tolist() for row in other.of_step(step)] for step in (3, 2, 1)] == forwards[::-1]
    drawn = [tuple(row) for step in forwards for row in step][:5]
    assert len(set(drawn)) == 5, "a pass takes every text once"


def test_a_run_learns_from_text_too(ready: Any, config: Any, watcher: Any, texts: Path) -> None:
    settings = config(
        total_steps=2, pretraining_coefficient=1.0, pretraining={"texts": [texts], "texts_per_step": 2}
    )
    with ready(settings) as (loop, _control):
        loop.run()
    assert watcher.metrics[2]["loss/pretraining_avg"] > 0


def test_a_run_is_not_resumed_with_other_texts_at_the_same_path(ready: Any, config: Any, texts: Path) -> None:
    settings = {"pretraining_coefficient": 1.0, "pretraining": {"texts": [texts], "texts_per_step": 2}}
    with ready(config(total_steps=1, **settings)) as (loop, _control):
        loop.run()
    texts.write_text(texts.read_text().replace("film", "movie"))
    with (
        pytest.raises(DivergedRunError, match=r"other settings \(pretraining_texts\)"),
        ready(config(total_steps=2, **settings)),
    ):
        pass


def test_a_coefficient_without_text_is_an_error(ready: Any, config: Any) -> None:
    with (
        pytest.raises(ConfigError, match="names no file"),
        ready(config(pretraining_coefficient=1.0)),
    ):
        pass
