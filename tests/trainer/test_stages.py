from pathlib import Path

import pytest

from pilothouse.errors import ConfigError
from pilothouse.trainer.stages import Outputs, Stages


class _Stop(Exception):
    pass


def _counting(calls: list[int]):
    def work(folder: Path) -> Outputs:
        calls.append(1)
        (folder / "file").write_text(str(len(calls)))
        return {"number": len(calls)}

    return work


def test_a_finished_stage_is_not_done_twice_for_the_same_inputs(tmp_path: Path) -> None:
    calls: list[int] = []
    stages = Stages(tmp_path)
    first = stages.run("sft", {"seed": 0}, _counting(calls))
    again = Stages(tmp_path).run("sft", {"seed": 0}, _counting(calls))
    assert (first.reused, again.reused, len(calls)) == (False, True, 1)
    assert again.outputs == {"number": 1}
    assert again.seconds == first.seconds
    assert stages.is_done("sft", {"seed": 0})


def test_other_inputs_start_in_an_empty_folder(tmp_path: Path) -> None:
    stages, calls = Stages(tmp_path), []
    stages.run("sft", {"seed": 0}, _counting(calls))
    (tmp_path / "sft" / "left").write_text("over")
    stages.run("sft", {"seed": 1}, _counting(calls))
    assert len(calls) == 2
    assert not (tmp_path / "sft" / "left").exists()
    assert not stages.is_done("sft", {"seed": 0})


def test_a_stage_that_was_cut_off_goes_on_in_its_folder(tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def broken(folder: Path) -> Outputs:
        (folder / "half").write_text("")
        raise _Stop

    with pytest.raises(_Stop):
        stages.run("ppo", {}, broken)
    assert not stages.is_done("ppo", {})
    stage = stages.run("ppo", {}, lambda folder: {"kept": (folder / "half").exists()})
    assert stage.outputs == {"kept": True}
    assert not stage.reused


def test_a_folder_that_is_no_stage_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="choose another folder"):
        Stages(tmp_path).run("sft", {}, lambda folder: {})
    assert (tmp_path / "sft" / "thesis.txt").exists()
