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
