"""Which folders may be staged, and what is remembered of a promotion."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.errors import (
    ConfigError,
    CorruptDataError,
    InvalidRequestError,
    PilothouseError,
    PreconditionError,
    UnsafeModelError,
)
from pilothouse.reward.models_folder import SERVING, ModelsFolder, Promoted, Spec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``inside/a`` with links that stay and links that leave, beside ``outside``."""
    (tmp_path / "outside" / "b").mkdir(parents=True)
    inside = tmp_path / "inside"
    (inside / "a" / "deep").mkdir(parents=True)
    (inside / "latest").symlink_to("a")
    (inside / "away").symlink_to(tmp_path / "outside")
    (inside / "loop").symlink_to("loop")
    return inside


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/..",
        "a/../../outside/b",
        "/etc",
        "away/b",
        "away",
        "loop",
        "a\0b",
        "x" * 300,
        "../inside/a",
    ],
)
def test_a_folder_elsewhere_is_refused_by_name(root: Path, name: str) -> None:
    with pytest.raises(UnsafeModelError) as caught:
        ModelsFolder(root).spec([name], "mean", 0.0)
    assert repr(name[:255]) in str(caught.value)


def test_links_that_stay_inside_are_followed_to_the_true_name(root: Path) -> None:
    folder = ModelsFolder(root)
    assert folder.spec(["latest"], "mean", 0.0) == Spec(("a",))
    assert folder.spec([str(root / "a" / "deep")], "mean", 0.0) == Spec(("a/deep",))
    with pytest.raises(InvalidRequestError, match="twice"):
        folder.spec(["latest", "a"], "mean", 0.0)


@given(
    name=st.text(max_size=40) | st.lists(st.sampled_from(["..", ".", "a", "/", "away", "loop"])).map("/".join)
)
def test_whatever_is_named_lies_inside_or_is_refused(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzzed"
    if not root.exists():
        (root / "a").mkdir(parents=True)
        (root / "away").symlink_to("/")
        (root / "loop").symlink_to("loop")
    folder = ModelsFolder(root)
    with suppress(PilothouseError):
        (path,) = folder.paths(folder.spec([name], "mean", 0.0))
        assert path.resolve().is_relative_to(root.resolve())
        assert path.resolve() != root.resolve()


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_that_makes_no_sense_is_refused(root: Path, factor: float) -> None:
    with pytest.raises(InvalidRequestError, match="std_factor"):
        ModelsFolder(root).spec(["a"], "mean", factor)


def test_no_folders_and_too_many_are_refused(root: Path) -> None:
    for names in ([], [f"m{number}" for number in range(17)]):
        with pytest.raises(InvalidRequestError, match="1 to 16 folders"):
            ModelsFolder(root).spec(names, "mean", 0.0)


def test_a_promotion_is_remembered_until_it_is_taken_back(root: Path) -> None:
    folder = ModelsFolder(root)
    assert folder.promoted() is None
    promoted = Promoted(folder.spec(["a", "a/deep"], "mean_minus_std", 0.5), "v7")
    folder.record(promoted)
    assert ModelsFolder(root).promoted() == promoted
    assert json.loads((root / SERVING).read_text())["folders"] == ["a", "a/deep"]
    folder.record(None)
    folder.record(None)
    assert ModelsFolder(root).promoted() is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": "v", "folders": ["a"], "combine": "max", "std_factor": 0}',
        '{"version": "v", "folders": [], "combine": "mean", "std_factor": 0}',
        '{"version": "v", "folders": [5], "combine": "mean", "std_factor": 0}',
        '{"version": "v", "folders": ["a"], "combine": "mean", "std_factor": "x"}',
    ],
)
def test_a_damaged_record_says_what_mends_it(root: Path, content: str) -> None:
    (root / SERVING).write_text(content)
    with pytest.raises(CorruptDataError, match=f"or remove .*{SERVING}"):
        ModelsFolder(root).promoted()


def test_a_record_that_names_another_place_is_refused(root: Path) -> None:
    body = {"version": "v", "folders": ["../outside/b"], "combine": "weighted", "std_factor": 0.0}
    (root / SERVING).write_text(json.dumps(body))
    with pytest.raises(CorruptDataError, match=r"'\.\./outside/b' is no folder inside"):
        ModelsFolder(root).promoted()


def test_a_folder_that_cannot_be_written_to_fails_the_promotion(root: Path) -> None:
    (root / f".{SERVING}.partial").mkdir()  # also stands in the way of root, whom no mode bits stop
    with pytest.raises(PreconditionError, match="let the service write"):
        ModelsFolder(root).record(Promoted(Spec(("a",)), "v"))
    assert ModelsFolder(root).promoted() is None


def test_a_models_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        ModelsFolder(tmp_path / "missing")
