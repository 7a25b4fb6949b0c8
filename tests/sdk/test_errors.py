import re

import pytest

from pilothouse import errors


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted(error.__name__ for error in errors.BY_REASON.values())


@pytest.mark.parametrize("error", errors.BY_REASON.values(), ids=lambda error: error.__name__)
def test_reason_is_the_name_in_capitals(error: type[errors.PilothouseError]) -> None:
    assert error.reason.replace("_", "") == error.__name__.removesuffix("Error").upper()


def test_reasons_are_words() -> None:
    assert errors.QueueFullError.reason == "QUEUE_FULL"
    assert errors.NonFiniteWeightsError.reason == "NON_FINITE_WEIGHTS"


def test_standard_library_twins_are_caught_by_their_twin() -> None:
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.UnavailableError, ConnectionError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
