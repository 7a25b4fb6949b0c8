import time

import pytest

from pilothouse.errors import DeadlineExceededError, QueueFullError, ScoringFailedError, UnavailableError
from pilothouse.trainer.patience import Patience


class Flaky:
    """A service that is away for the first ``away`` looks."""

    def __init__(self, away: int) -> None:
        self.away = away

    def wait_ready(self, timeout_seconds: float) -> None:
        self.away -= 1
        if self.away >= 0:
            raise UnavailableError("not ready")


class Work:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_lost_service_is_waited_for_with_a_countdown_and_the_call_repeated() -> None:
    seen: list[tuple[str, float]] = []
    patience = Patience(
        {"reward": Flaky(2)}, wait_seconds=60, on_wait=lambda name, left: seen.append((name, left))
    )
    work = Work(UnavailableError("gone"), DeadlineExceededError("frozen"), QueueFullError("busy", 0.01))
    assert patience.call("reward", work) == "done"
    assert work.calls == 4
    assert [name for name, _ in seen] == ["reward", "reward"]
    assert 60 >= seen[0][1] > seen[1][1] > 0


def test_patience_ends_with_what_would_help() -> None:
    patience = Patience({"policy": Flaky(10**9)}, wait_seconds=0.3, on_wait=lambda name, left: None)
    with pytest.raises(UnavailableError, match=r"policy did not come back within 0.3 s .*gone.*resume"):
        patience.call("policy", Work(UnavailableError("gone")))


def test_an_answer_that_is_an_error_is_not_repeated() -> None:
    work = Work(ScoringFailedError("no"))
    with pytest.raises(ScoringFailedError):
        Patience({"reward": Flaky(0)}, wait_seconds=60, on_wait=print).call("reward", work)
    assert work.calls == 1


class Clock:
    """Time that passes only where somebody sleeps or works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.pass_)

    def pass_(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float, error: Exception | None) -> None:
        self.now += seconds
        if error is not None:
            raise error


def test_a_service_that_works_and_is_lost_again_has_been_away_only_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    errors = [UnavailableError("gone"), UnavailableError("gone again"), None]
    patience = Patience({"policy": Flaky(0)}, wait_seconds=120, on_wait=lambda name, left: None)
    patience.call("policy", lambda: clock.work(300, errors.pop(0)))
    assert errors == []


@pytest.mark.parametrize(
    ("seconds", "error"), [(300, DeadlineExceededError("frozen")), (2, UnavailableError("1 of 3 answer"))]
)
def test_a_service_that_says_it_is_there_and_does_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, seconds: float, error: Exception
) -> None:
    clock = Clock(monkeypatch)
    patience = Patience({"policy": Flaky(0)}, wait_seconds=120, on_wait=lambda name, left: None)
    with pytest.raises(UnavailableError, match="did not come back within 120 s"):
        patience.call("policy", lambda: clock.work(seconds, error))
    assert clock.now <= 2 * 300 + 120


def test_the_countdown_is_told_once_a_second_also_where_a_look_takes_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)
    told: list[float] = []
    patience = Patience(
        {"policy": Flaky(10**9)}, wait_seconds=5.2, on_wait=lambda name, left: told.append(left)
    )
    with pytest.raises(UnavailableError):
        patience.call("policy", Work(UnavailableError("gone")))
    assert told == pytest.approx([5, 4, 3, 2, 1])
