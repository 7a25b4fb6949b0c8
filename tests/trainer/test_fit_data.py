"""What length limits, ties and few data do to a supervised run, and what people hear of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pilothouse.errors import InvalidDataError
from pilothouse.trainer.commands import train
from pilothouse.trainer.config import RewardModelConfig, SftConfig
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.sft import train_sft

SHORT = {"prompt": " the film was", "chosen": " good", "rejected": " bad"}
LONG = SHORT | {"prompt": " the film was" * 20}
TIE = {"prompt": " the film was", "responses": [" good", " great"], "ranks": [1, 1]}


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def reward_model(folder: Path, data: Path, **changes: Any) -> RewardModelConfig:
    values = {"data": (data,), "output": folder / "run", "batch_size": 2, "max_sequence_tokens": 16}
    return RewardModelConfig.model_validate(values | {"tensorboard": False} | changes)


def test_a_limit_that_leaves_out_most_rankings_is_refused_with_the_one_that_keeps_all(tmp_path: Path) -> None:
    data = write(tmp_path / "r.jsonl", SHORT, LONG, LONG)
    config = reward_model(tmp_path, data)
    with pytest.raises(
        InvalidDataError, match=r"2 of 3 rankings .*reward_model\.max_sequence_tokens = 16"
    ) as told:
        train_reward_model(config)
    needed = int(re.search(r"\((\d+) would keep all\)", str(told.value))[1])  # type: ignore[index]
    result = train_reward_model(config.model_copy(update={"max_sequence_tokens": needed}))
    assert result.counts == {"rankings": 3, "rankings_left_out": 0, "rankings_truncated": 0}
    cut = train_reward_model(config.model_copy(update={"overlong": "truncate", "output": tmp_path / "cut"}))
    assert cut.counts == {"rankings": 3, "rankings_left_out": 0, "rankings_truncated": 2}


def test_a_limit_that_leaves_out_most_demonstrations_is_refused_as_well(tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in (SHORT, LONG, LONG)]
    config = SftConfig(
        data=(write(tmp_path / "d.jsonl", *rows),), output=tmp_path / "run", max_sequence_tokens=16
    )
    with pytest.raises(InvalidDataError, match=r"2 of 3 demonstrations .*sft\.max_sequence_tokens = 16"):
        train_sft(config)
    told = train_sft(config.model_copy(update={"overlong": "truncate"}))
    assert (told["demonstrations"], told["demonstrations_truncated"]) == (3, 2)


def test_the_commands_say_how_much_was_left_out(tmp_path: Path) -> None:
    data = write(tmp_path / "r.jsonl", SHORT, SHORT, LONG)
    flags = (f"data=['{data}']", f"output='{tmp_path / 'run'}'", "max_sequence_tokens=16")
    arguments = ["reward-model", *(part for flag in flags for part in ("--set", f"reward_model.{flag}"))]
    told = json.loads(CliRunner().invoke(train, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert (told["rankings"], told["rankings_left_out"]) == (2, 1)
    shown = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert re.search(r"rankings_left_out +1 *\n", shown.stdout)
    assert "1 rankings left out" in shown.stderr


def test_the_results_of_a_command_are_words_and_no_python(tmp_path: Path) -> None:
    data = write(tmp_path / "r.jsonl", SHORT, SHORT | {"prompt": " the story was"})
    flags = (f"data=['{data}']", f"evaluation_data=['{data}']", f"output='{tmp_path / 'run'}'")
    arguments = ["reward-model", *(part for flag in flags for part in ("--set", f"reward_model.{flag}"))]
    shown = CliRunner().invoke(train, arguments, catch_exceptions=False).stdout
    assert re.search(r"held_out_accuracy +[\d.]+ \([\d.]+ to [\d.]+; 2 independent\)", shown)
    assert "{" not in shown


def test_one_unit_has_no_interval(tmp_path: Path) -> None:
    data = write(tmp_path / "r.jsonl", SHORT)
    result = train_reward_model(reward_model(tmp_path, data, evaluation_data=(data,)))
    assert result.accuracy is not None
    overall = json.loads((tmp_path / "run/accuracy.json").read_text())["overall"]
    assert overall == {"mean": result.accuracy.overall.mean, "low": None, "high": None, "count": 1}
    assert "no interval" in (tmp_path / "run/model/README.md").read_text()


def test_records_beyond_the_model_are_refused_by_its_own_limit(tmp_path: Path) -> None:
    data = write(tmp_path / "r.jsonl", SHORT | {"prompt": " the film was" * 120})
    with pytest.raises(InvalidDataError, match="tiny takes 256 at most"):
        train_reward_model(reward_model(tmp_path, data, max_sequence_tokens=1024))
    rows = [{"text": " the film was" * 120}]
    with pytest.raises(InvalidDataError, match="tiny takes 256 at most"):
        train_sft(
            SftConfig(data=(write(tmp_path / "d.jsonl", *rows),), output=tmp_path, max_sequence_tokens=1024)
        )


@pytest.mark.parametrize("loss", ["pairs", "plackett-luce", "best-of-k"])
def test_ties_alone_are_refused_where_they_tell_nothing(tmp_path: Path, loss: str) -> None:
    ties, some = write(tmp_path / "ties.jsonl", TIE, TIE), write(tmp_path / "some.jsonl", TIE, SHORT)
    with pytest.raises(InvalidDataError, match=r"ties.jsonl: .* reward_model.ties = \"drop\" leaves out"):
        train_reward_model(reward_model(tmp_path, ties, loss=loss, ties="drop"))
    with pytest.raises(InvalidDataError, match=r"ties.jsonl: .* tell nothing of accuracy"):
        train_reward_model(reward_model(tmp_path, some, loss=loss, evaluation_data=(ties,)))
    train_reward_model(reward_model(tmp_path, some, loss=loss, ties="drop", evaluation_data=(some,)))


def test_files_in_messages_are_paths_as_people_write_them(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl")
    with pytest.raises(InvalidDataError, match=rf"^{re.escape(str(empty))} holds no rankings"):
        train_reward_model(reward_model(tmp_path, empty))
