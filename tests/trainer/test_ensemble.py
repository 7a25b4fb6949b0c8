import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.trainer.judged import crowd, ranking
from typer.testing import CliRunner

from pilothouse.errors import ConfigError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.models.reward_files import read_manifest
from pilothouse.trainer.commands import train
from pilothouse.trainer.config import OptimiserConfig, RewardModelConfig
from pilothouse.trainer.ensemble import ensemble_report, member_config, train_ensemble
from pilothouse.trainer.reward_data import bootstrap, read_reward_data
from pilothouse.trainer.reward_model import held_out_scores, train_reward_model

GOOD, BAD = (" good", " great", " wonderful", " brilliant"), (" bad", " awful", " boring", " terrible")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., RewardModelConfig]:
    """``config(key=value)``: three members of 6 steps each in ``tmp_path/run``."""
    generator = np.random.default_rng(0)

    def build(**changes: Any) -> RewardModelConfig:
        values = {
            "data": (tmp_path / "train.jsonl",),
            "evaluation_data": (tmp_path / "held-out.jsonl",),
            "output": tmp_path / "run",
            "members": 3,
            "batch_size": 8,
            "checkpoint_every_steps": 2,
            "optimiser": OptimiserConfig(learning_rate=2e-3, schedule="linear"),
            "max_sequence_tokens": 32,
            "normalise_samples": 64,
        }
        return RewardModelConfig.model_validate(values | changes)

    for name, count in (("train", 48), ("held-out", 16)):
        rows = [
            {
                "prompt": f" film {index} was",
                "chosen": str(generator.choice(GOOD)),
                "rejected": str(generator.choice(BAD)),
            }
            for index in range(count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build


def test_members_differ_and_each_is_a_model_like_any_other(
    config: Callable[..., RewardModelConfig], tmp_path: Path
) -> None:
    result = train_ensemble(config())
    assert len({member.version for member in result.members}) == 3
    told = json.loads((tmp_path / "run" / "ensemble.json").read_text())
    settings, start = config(), load_causal_lm("tiny")
    held_out = read_reward_data(settings, start).held_out
    for number, member in enumerate(result.members, start=1):
        folder = tmp_path / "run" / f"member-{number}" / "model"
        assert told["members"][number - 1]["version"] == read_manifest(folder).version == member.version
        assert json.loads((folder / "card.json").read_text())["member"] == {
            "number": number,
            "bootstrap": True,
        }
        served = held_out_scores(ScalarModel.load(folder), held_out, 4096)
        np.testing.assert_allclose(np.concatenate(member.scores), np.concatenate(served), atol=1e-4)
    assert result.report is not None
    assert result.report.mean.overall.mean > 0.9
    assert result.report.disagreement.deviation.mean > 0
    assert told["held_out"] == json.loads(json.dumps(result.report.to_json()))
    assert not (tmp_path / "run" / "model").exists()


def test_a_stopped_ensemble_goes_on_in_the_member_that_was_stopped(
    config: Callable[..., RewardModelConfig], tmp_path: Path
) -> None:
    whole = train_ensemble(config(output=tmp_path / "whole"))
    steps: list[int] = []

    def stop(done: int, total: int, metrics: Mapping[str, float]) -> None:
        steps.append(done)
        if len(steps) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ensemble(config(), stop)
    assert not (tmp_path / "run" / "ensemble.json").exists()
    again: list[int] = []
    resumed = train_ensemble(config(), lambda done, total, metrics: again.append(done))
    assert again == [*range(steps[-1], steps[-1] + 1), *again[1:]]
    assert len(again) < 3 * 6
    assert [member.version for member in resumed.members] == [member.version for member in whole.members]
    assert (tmp_path / "run" / "ensemble.json").read_bytes() == (
        tmp_path / "whole" / "ensemble.json"
    ).read_bytes()


def test_members_can_be_added_later(config: Callable[..., RewardModelConfig]) -> None:
    first = train_ensemble(config(members=2))
    steps: list[int] = []
    more = train_ensemble(config(members=3), lambda done, total, metrics: steps.append(done))
    assert [member.version for member in more.members[:2]] == [member.version for member in first.members]
    assert steps[0] == 1
    assert len(steps) <= 7


def test_a_member_is_a_run_with_a_folder_and_a_seed_of_its_own() -> None:
    config = RewardModelConfig(seed=5, members=4, output=Path("runs/x"))
    first, second = member_config(config, 1), member_config(config, 2)
    assert (first.seed, first.output, first.members) == (5, Path("runs/x/member-1"), 1)
    assert second.seed not in (5, 6)


def test_one_model_is_not_trained_where_several_are_asked_for(
    config: Callable[..., RewardModelConfig],
) -> None:
    with pytest.raises(ConfigError, match=r"reward_model\.members is 3"):
        train_reward_model(config())


def test_an_ensemble_is_one_command(config: Callable[..., RewardModelConfig], tmp_path: Path) -> None:
    settings = config()
    flags = {"data": [str(settings.data[0])], "output": str(tmp_path / "run"), "members": 2, "batch_size": 16}
    arguments = ["reward-model", "--json", "--set", "reward_model.max_sequence_tokens=32"]
    for name, value in flags.items():
        arguments += ["--set", f"reward_model.{name}={json.dumps(value)}"]
    told = json.loads(CliRunner().invoke(train, arguments, catch_exceptions=False).stdout)
    assert told["models"] == [str(tmp_path / "run" / f"member-{number}" / "model") for number in (1, 2)]
    assert told["reward_versions"][0] == read_manifest(Path(told["models"][0])).version


def test_prompts_are_drawn_whole_and_with_replacement() -> None:
    items = [ranking(prompt, (1, 2), (1, 2), rater=rater) for prompt in range(50) for rater in "ab"]
    drawn = bootstrap(items, seed=3)
    assert len(drawn) == 100
    prompts = [int(item.sequences[0][0]) for item in drawn]
    assert 20 < len(set(prompts)) < 45
    assert [item.rater for item in drawn] == ["a", "b"] * 50
    assert bootstrap(items, seed=3) == drawn
    assert bootstrap(items, seed=4) != drawn


def test_rankings_are_drawn_where_there_is_one_prompt() -> None:
    items = [ranking(0, (1, 2), (1, 2), rater=str(rater)) for rater in range(30)]
    assert 10 < len({item.rater for item in bootstrap(items, seed=0)}) < 30


def test_combinations_are_measured_as_they_will_be_served() -> None:
    items = [ranking(prompt, (1, 2), (1, 2)) for prompt in range(4)]
    one = [np.array(row, np.float32) for row in ([1, 0], [3, 0], [0, 1], [1, 0])]
    two = [np.array(row, np.float32) for row in ([1, 0], [-2, 0], [0, 1], [1, 0])]
    report = ensemble_report([one, two], items, std_factor=1.0)
    assert report.mean.overall.mean == 3 / 4
    assert report.least.overall.mean == 2 / 4
    assert report.mean_minus_std.overall.mean == 2 / 4
    found = report.disagreement
    assert found.deviation.mean == pytest.approx((2.5 / 2) / 4)
    assert found.unanimous is not None
    assert found.unanimous.mean == 3 / 4
    assert found.accuracy_unanimous is not None
    assert found.accuracy_unanimous.mean == pytest.approx(2 / 3)
    assert found.accuracy_divided is not None
    assert found.accuracy_divided.mean == 1.0


def test_without_deviation_all_combinations_are_the_member() -> None:
    scores, items = crowd(50, seed=0)
    report = ensemble_report([scores, scores], items, std_factor=2.0)
    assert report.mean == report.least == report.mean_minus_std
    assert report.disagreement.accuracy_divided is None
