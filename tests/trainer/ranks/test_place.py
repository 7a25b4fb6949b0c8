"""What the environment says about ranks."""

import pytest

from pilothouse.errors import ConfigError
from pilothouse.trainer.ranks.place import Place, demand_one_rank

MET = {"MASTER_ADDR": "trainer-0", "MASTER_PORT": "29500"}


def test_a_process_is_alone_unless_the_environment_names_more_ranks() -> None:
    assert Place.here({}) == Place.here({"WORLD_SIZE": "1", "RANK": "0"}) == Place(0, 1)
    assert Place.here(MET | {"WORLD_SIZE": "3", "RANK": "2"}) == Place(2, 3)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two' and must be a number"),
        (MET | {"WORLD_SIZE": "2"}, "RANK is not set"),
        (MET | {"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 of WORLD_SIZE=2 is no rank"),
        (MET | {"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0 of WORLD_SIZE=0 is no rank"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "29500"}, "must name the host of rank 0"),
        (MET | {"WORLD_SIZE": "2", "RANK": "0", "MASTER_PORT": "0"}, "must name the host of rank 0"),
    ],
)
def test_an_environment_that_names_no_place_says_what_is_missing(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Place.here(environment)


def test_a_command_that_does_not_share_its_work_refuses_several_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (MET | {"WORLD_SIZE": "2", "RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="`train sft` runs on one rank, this is one of 2"):
        demand_one_rank("`train sft`")
    monkeypatch.setenv("WORLD_SIZE", "1")
    demand_one_rank("`train sft`")
