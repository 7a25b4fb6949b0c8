from pathlib import Path

import pytest

from pilothouse.errors import DivergedRunError
from pilothouse.trainer.checkpoint import Checkpoint
from pilothouse.trainer.config import OptimiserConfig, SftConfig
from pilothouse.trainer.identity import Identity, changed_keys, check_identity, identity


def check(before: Identity, now: Identity, *, accept: bool = False) -> None:
    checkpoint = Checkpoint(Path("step_00000003"), 3, {"identity": before})
    check_identity(checkpoint, now, accept=accept, flag="sft.accept_changes", anew="start anew")


def test_an_identity_is_all_settings_but_those_that_may_change_and_the_digests_of_data() -> None:
    found = identity(SftConfig(seed=7), {"output": True, "optimiser": {"learning_rate"}}, data="d1")
    assert (found["seed"], found["data"]) == (7, "d1")
    assert "output" not in found
    assert found["optimiser"].keys() == OptimiserConfig.model_fields.keys() - {"learning_rate"}


def test_a_changed_identity_is_refused_by_its_keys_unless_it_is_accepted() -> None:
    before = {"seed": 0, "optimiser": {"schedule": "linear"}}
    check(before, before)
    now = {"seed": 1, "optimiser": {"schedule": "cosine"}}
    with pytest.raises(
        DivergedRunError, match=r"\(optimiser\.schedule, seed\); .*sft\.accept_changes = true"
    ):
        check(before, now)
    check(before, now, accept=True)


def test_a_setting_that_one_version_of_the_program_does_not_know_is_no_change() -> None:
    assert changed_keys({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 3}) == ["a.c"]
