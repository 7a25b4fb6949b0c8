"""Finds raters whose work should not count, and says why."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pilothouse.feedback.quality.careless import random_clickers
from pilothouse.feedback.quality.consensus import of_others
from pilothouse.feedback.quality.copies import copiers
from pilothouse.feedback.quality.position import creatures_of_habit
from pilothouse.feedback.quality.table import Reals, Table

Suspicion = Literal["random", "position", "copy"]
"""Ranks without regard to the answers, after the places on the screen, or after another rater."""

LEVEL = 0.02
"""Share of the accused that may be innocent on average, for each suspicion."""


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Who is suspected, and the consensus without them."""

    suspicions: tuple[tuple[Suspicion, ...], ...]
    """R, sorted; empty for no suspicion."""
    others: Reals
    """[N, K] strengths of a task's answers by its other raters, without copiers and creatures of habit."""


def find_suspects(table: Table, reliability: Reals) -> Findings:
    """Looks for copiers and for habits of position, and without these for random clickers.

    Args:
        table: Judgements.
        reliability: [R] weights of the raters' votes; nan where nobody else answered.
    """
    copying = copiers(table, LEVEL)
    habitual = creatures_of_habit(table, LEVEL)
    weight = np.nan_to_num(reliability)
    weight[list(copying | habitual)] = 0.0
    others = of_others(table, weight[table.rater])
    random = random_clickers(table, others, copying | habitual, LEVEL)
    found: tuple[tuple[Suspicion, set[int]], ...] = (
        ("copy", copying),
        ("position", habitual),
        ("random", random),
    )
    return Findings(
        tuple(tuple(name for name, who in found if rater in who) for rater in range(len(table.raters))),
        others,
    )
