"""The user's own scorer, found in an installed package."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.errors import ConfigError, ScoringFailedError
from pilothouse.reward.backends.base import Row
from pilothouse.reward.backends.python import PythonBackend
from pilothouse.reward.config import PythonConfig

CODE = """
def shout(prompts, responses):
    return [float(response.isupper()) for response in responses]

class Count:
    version = "v7"
    def __init__(self, word="good"):
        self.word = word
    def __call__(self, prompts, responses):
        return [response.count(self.word) for response in responses]

def broken(prompts, responses):
    raise RuntimeError("secret path /etc")

def short(prompts, responses):
    return [1.0]

def words(prompts, responses):
    return ["one" for _ in responses]

number = 5
"""

ROWS = [Row(response="good, good"), Row(prompt="good", response="LOUD")]


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with scorers, as pip installs one."""
    (tmp_path / "rated_scorers.py").write_text(CODE)
    names = ("shout", "Count", "broken", "short", "words", "number", "absent")
    points = "\n".join(f"{name.lower()} = rated_scorers:{name}" for name in names)
    info = tmp_path / "rated_scorers-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rated-scorers\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[pilothouse.scorers]\n{points}\n")
    monkeypatch.syspath_prepend(tmp_path)


def scorer(name: str, **options: object) -> PythonBackend:
    return PythonBackend(PythonConfig(scorer=name, options=options))


def test_a_function_scores() -> None:
    assert scorer("shout").score(ROWS).tolist() == [0.0, 1.0]


def test_a_class_is_made_with_the_options_and_scores() -> None:
    assert scorer("count").score(ROWS).tolist() == [2.0, 0.0]
    assert scorer("count", word="LOUD").score(ROWS).tolist() == [0.0, 1.0]


def test_the_version_names_package_and_options_or_the_scorers_own_version() -> None:
    assert ":1.2:" in scorer("shout").version
    assert ":v7:" in scorer("count").version
    assert scorer("count").version != scorer("count", word="x").version


@pytest.mark.parametrize("name", ["broken", "words"])
def test_a_scorer_that_fails_gives_an_error_without_its_internals(name: str) -> None:
    with pytest.raises(ScoringFailedError, match="failed on 2 rows") as caught:
        scorer(name).score(ROWS)
    assert "secret" not in str(caught.value)


def test_a_scorer_must_return_one_number_a_row() -> None:
    with pytest.raises(ScoringFailedError, match="return one a row"):
        scorer("short").score(ROWS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scorer("nosuch"), "known: .*count"),
        (lambda: scorer("absent"), "cannot be made"),
        (lambda: scorer("count", colour="red"), "cannot be made"),
        (lambda: scorer("number"), "not callable"),
    ],
)
def test_a_scorer_that_cannot_be_made_says_why(make: Callable[[], PythonBackend], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
