"""What the probe's answers prove. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

Answer = Mapping[str, Any]
"""asked and told: seconds; pod: address; answers: [epoch, version] of a call, or None while it takes none."""

FRESH_SECONDS = 3.0
"""A pod that was last heard of longer ago may be gone."""
MOMENT_SECONDS = 2.0
"""A push commits at one pod after the other, and a trainer may be killed amid it: for so long the version
before is current, too."""


def late_pods_that_answered_old(answers: Sequence[Answer]) -> tuple[list[str], list[Answer]]:
    """Finds answers with weights that were no longer current when the question was asked.

    Returns:
        The pods that began to answer after the first one had, and their stale answers.
    """
    ordered = sorted(answers, key=lambda answer: float(answer["told"]))
    pods = list(dict.fromkeys(answer["pod"] for answer in ordered if answer["answers"]))
    late = set(pods[1:])
    given = [answer for answer in ordered if answer["answers"] and answer["pod"] in late]
    return sorted(late), [answer for answer in given if _is_stale(answer, ordered)]


def _is_stale(answer: Answer, ordered: Sequence[Answer]) -> bool:
    asked = float(answer["asked"])
    current = _current(ordered, asked, besides=answer["pod"])
    if current is None or answer["answers"] >= current:
        return False
    epoch, version = current
    for_long = _current(ordered, asked - MOMENT_SECONDS, besides=answer["pod"])
    return answer["answers"] < [epoch, version - 1] or (for_long is not None and answer["answers"] < for_long)


def _current(ordered: Sequence[Answer], when: float, *, besides: str) -> list[int] | None:
    """Returns the version that every other pod had answered with at a time, or a newer one."""
    known = {
        answer["pod"]: answer["answers"]
        for answer in ordered
        if when - FRESH_SECONDS <= float(answer["told"]) <= when and answer["pod"] != besides
    }
    return min((version for version in known.values() if version), default=None)
