import tomllib
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from pilothouse import config
from pilothouse.errors import ConfigError


class Part(config.Config):
    kind: str = "onnx"
    weight: float = 1.0


class Limits(config.Config):
    max_running: int = Field(default=32, ge=1)
    wait_seconds: float = 1.0


class Policy(config.Config):
    model: str = "tiny"
    limits: Limits = Limits()
    parts: tuple[Part, ...] = ()
    fallback: Part | None = None
    budget: float | None = 50.0


class Checked(config.Config):
    number: int = 0

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.number % 2:
            raise ValueError("give an even number")
        return self


def load(tmp_path: Path, toml: str = "", *overrides: str, **environment: str) -> Policy:
    file = tmp_path / "pilothouse.toml"
    file.write_text(toml)
    return config.load(Policy, "policy", file=file, overrides=overrides, environment=environment)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    toml = "[policy]\nmodel = 'file'\n[policy.limits]\nmax_running = 1\nwait_seconds = 2\n"
    assert load(tmp_path).model == "tiny"
    assert load(tmp_path, toml).limits == Limits(max_running=1, wait_seconds=2)
    found = load(
        tmp_path,
        toml,
        "policy.limits.max_running=4",
        PILOTHOUSE_POLICY__LIMITS__MAX_RUNNING="3",
        PILOTHOUSE_POLICY__LIMITS__WAIT_SECONDS="3",
    )
    assert found.limits == Limits(max_running=4, wait_seconds=3)
    assert found.model == "file"


def test_what_a_setting_says_of_itself_is_told_without_the_checkers_words() -> None:
    with pytest.raises(ConfigError, match=r"^checked: give an even number$"):
        config.parse(Checked, {"number": 3}, section="checked")


def test_an_optional_setting_is_turned_off_by_none(tmp_path: Path) -> None:
    assert load(tmp_path).budget == 50
    assert load(tmp_path, "", "policy.budget=none").budget is None
    assert load(tmp_path, "[policy]\nbudget = 'none'\n").budget is None
    assert load(tmp_path, "", "policy.model=none").model == "none"
    with pytest.raises(ConfigError, match=r"policy\.limits\.max_running"):
        load(tmp_path, "", "policy.limits.max_running=none")


def test_other_sections_are_left_alone(tmp_path: Path) -> None:
    found = load(tmp_path, "[reward]\nbackend = 'onnx'\n", "reward.x=1", PILOTHOUSE_REWARD__X="1")
    assert found == Policy()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.modle=x", r"unknown key policy\.modle; did you mean 'model'\?"),
        ("policy.limits.max_runing=1", r"policy\.limits\.max_runing; did you mean 'max_running'\?"),
        ("policy.fallback={wieght=1}", r"policy\.fallback\.wieght; did you mean 'weight'\?"),
        ("policy.parts=[{knd='x'}]", r"policy\.parts\.0\.knd; did you mean 'kind'\?"),
        ("policy.zzz=1", "known keys: budget, fallback, limits, model, parts"),
        ("policy.limits.max_running=0", r"policy\.limits\.max_running: .*greater than or equal to 1"),
        ("policy.limits.max_running=many", r"policy\.limits\.max_running: .*integer"),
        ("policy=1", "names no key"),
        ("policy.model", "is not an override"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place_and_the_mend(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, "", override)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.a; .*policy\.b"):
        load(tmp_path, "[policy]\na = 1\nb = 2\n")


def test_a_section_that_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write \[policy\] above its keys"):
        load(tmp_path, "policy = 5\n")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(Policy, "policy", file=tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"[policy", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.read_file(tmp_path / "broken.toml")


@pytest.mark.parametrize(
    "text", ["runs/x", "2026-11-23", "07:30:00", "7", "1\nmax_running = 2", "a=b", "", " "]
)
def test_any_text_can_be_a_name(text: str) -> None:
    found = config.load(Policy, "policy", overrides=[f"policy.model={text}"], environment={})
    assert found.model == text


@given(st.text())
def test_no_text_of_a_flag_breaks_the_reader(text: str) -> None:
    try:
        found = config.load(Policy, "policy", overrides=[f"policy.model={text}"], environment={})
    except ConfigError:
        tomllib.loads(f"value = {text}")  # only what TOML reads as something else than a text is refused
    else:
        assert isinstance(found.model, str)


@given(st.integers(1, 2**31), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_every_source(running: int, seconds: float) -> None:
    expected = Limits(max_running=running, wait_seconds=seconds)
    overrides = [f"policy.limits.max_running={running}", f"policy.limits.wait_seconds={seconds!r}"]
    environment = {
        "PILOTHOUSE_POLICY__LIMITS__MAX_RUNNING": str(running),
        "PILOTHOUSE_POLICY__LIMITS__WAIT_SECONDS": repr(seconds),
    }
    assert config.load(Policy, "policy", overrides=overrides, environment={}).limits == expected
    assert config.load(Policy, "policy", environment=environment).limits == expected


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Policy().model = "other"  # type: ignore[misc]
