"""What the probe's answers prove. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

Answer = Mapping[str, Any]
"""asked and told: seconds; pod: address; answers: [epoch, version] of a call, or None while it takes none."""

FRESH_SECONDS = 3.0
"""A pod that was last heard of longer ago may be gone."""


def late_pods_that_answered_old(answers: Sequence[Answer]) -> tuple[list[str], list[Answer]]:
    """Finds answers with weights that nobody else answered with any more when the question was asked.

    A push reaches the pods one after the other within moments; so current is the oldest version with which
    any other pod has answered last, before the question.

    Returns:
        The pods that began to answer after the first one had, and their stale answers.
    """
    ordered = sorted(answers, key=lambda answer: float(answer["told"]))
    last: dict[str, Answer] = {}
    first_pods: set[str] = set()
    late: set[str] = set()
    stale = []
    for place, answer in enumerate(ordered):
        if answer["answers"] is None:
            last.pop(answer["pod"], None)
            continue
        if answer["pod"] not in last and answer["pod"] not in first_pods:
            (late if first_pods else first_pods).add(answer["pod"])
        current = newest_before(ordered[:place], answer)
        if answer["pod"] in late and current is not None and answer["answers"] < current:
            stale.append(answer)
        last[answer["pod"]] = answer
    return sorted(late), stale


def newest_before(earlier: Sequence[Answer], question: Answer) -> list[int] | None:
    """Returns the version that every other pod answered with last before the question, or a newer one."""
    known: dict[str, list[int]] = {}
    for answer in reversed(earlier):
        if float(answer["told"]) < float(question["asked"]) - FRESH_SECONDS:
            break
        before = float(answer["told"]) <= float(question["asked"])
        if before and answer["pod"] != question["pod"] and answer["answers"] is not None:
            known.setdefault(answer["pod"], answer["answers"])
    return min(known.values(), default=None)
