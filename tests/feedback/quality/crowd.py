"""A simulated crowd that judges at random overlap. Simulated, and named so: no people.

Strengths of a task's K answers are normal with deviation `SPREAD`. An honest rater sees each with Gumbel
noise (Plackett-Luce, whose pairs are Bradley-Terry) times the rater's own carelessness, and ties what looks
the same. Two honest raters put about 72 % of the pairs that neither ties in the same order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pilothouse.feedback.quality.judgements import Judgement

Kind = Literal["honest", "random", "position", "copy"]
BAD: tuple[Kind, ...] = ("random", "position", "copy")

SPREAD = 1.5
CARELESSNESS = 0.15
"""Deviation of the logarithm of an honest rater's noise."""
SAME = 0.1
"""Two answers that seem less apart than this are tied."""
DISCIPLINE = 0.9
"""Share of tasks in which a bad rater of position does what it always does, and a copier copies exactly."""

Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Crowd:
    judgements: list[Judgement]
    kinds: dict[str, Kind]
    victims: dict[str, str]
    """Whom each copier copies."""


def simulate(
    seed: int,
    *,
    raters: int = 100,
    bad_share: float = 0.18,
    items: int = 30,
    overlap: int = 3,
    answers: int = 4,
    spread: float = SPREAD,
) -> Crowd:
    """Lets raters judge about ``items`` tasks each, in random order.

    Bad raters are a third each. A copier answers the tasks of an honest rater of its own, after it.
    """
    rng = np.random.default_rng(seed)
    bad = round(raters * bad_share)
    kinds: list[Kind] = [BAD[index % 3] for index in range(bad)] + ["honest"] * (raters - bad)
    names = [f"rater-{index:03}" for index in rng.permutation(raters)]
    copiers = [index for index in range(raters) if kinds[index] == "copy"]
    honest = [index for index in range(raters) if kinds[index] == "honest"]
    victim_of = dict(zip(copiers, rng.choice(honest, len(copiers), replace=False).tolist(), strict=True))
    places = _deal(rng, raters, items, overlap, victim_of)
    care = np.exp(rng.normal(0, CARELESSNESS, raters))
    pattern = rng.integers(4, size=raters)
    judgements: dict[tuple[int, int], Judgement] = {}
    moments = rng.permutation(len(places)) * 600.0
    for task, who in enumerate(places):
        strengths = rng.normal(0, spread, answers)
        for turn, rater in enumerate(sorted(who, key=lambda each: each in victim_of)):
            order = rng.permutation(answers)
            match kinds[rater]:
                case "honest":
                    ranks = _looks(rng, strengths, care[rater])
                case "random":
                    ranks = rng.permutation(answers) + 1
                case "position":
                    ranks = _follows(rng, order, pattern[rater])
                case "copy":
                    ranks = _copies(rng, np.array(judgements[task, victim_of[rater]].ranks))
            judgements[task, rater] = Judgement(
                task=f"task-{task:05}",
                rater=names[rater],
                ranks=tuple(ranks.tolist()),
                order=tuple(order.tolist()),
                lengths=tuple(rng.integers(200, 400, answers).tolist()),
                seconds=float(rng.lognormal(3, 0.5)),
                at=moments[task] + 60.0 * turn + float(rng.uniform(0, 50)),
            )
    return Crowd(
        list(judgements.values()),
        {names[index]: kind for index, kind in enumerate(kinds)},
        {names[copier]: names[victim] for copier, victim in victim_of.items()},
    )


def _deal(
    rng: np.random.Generator, raters: int, items: int, overlap: int, victim_of: dict[int, int]
) -> list[list[int]]:
    """Returns who answers each task: first the copied tasks, then whoever has most left to do."""
    tasks: list[list[int]] = [[victim, copier] for copier, victim in victim_of.items() for _ in range(items)]
    tasks += [[] for _ in range(max(raters * items // overlap - len(tasks), 0))]
    left = np.full(raters, items)
    left[list(victim_of) + list(victim_of.values())] = 0
    for who in tasks:
        keys = left + rng.uniform(size=raters)
        keys[who] = -1
        chosen = np.argsort(-keys)[: overlap - len(who)]
        left[chosen] -= 1
        who.extend(int(each) for each in chosen if left[each] >= 0)
    return tasks


def _looks(rng: np.random.Generator, strengths: npt.NDArray[np.float64], care: float) -> Ranks:
    seen = strengths + care * rng.gumbel(size=len(strengths))
    best_first = np.argsort(-seen)
    steps = np.diff(-seen[best_first], prepend=-seen[best_first[0]]) >= SAME
    ranks = np.empty(len(seen), dtype=np.int64)
    ranks[best_first] = 1 + np.cumsum(steps)
    return ranks


def _follows(rng: np.random.Generator, order: Ranks, pattern: int) -> Ranks:
    """Always the first or the last on top and the rest at random, or as shown, or the other way round."""
    count = len(order)
    at_random = rng.permutation(count)
    on_screen = [
        np.insert(rng.permutation(count - 1) + 1, 0, 0),
        np.append(rng.permutation(count - 1) + 1, 0),
        np.arange(count),
        np.arange(count)[::-1],
    ][pattern]
    ranks = np.empty(count, dtype=np.int64)
    ranks[order] = on_screen if rng.uniform() < DISCIPLINE else at_random
    return ranks + 1


def _copies(rng: np.random.Generator, ranks: Ranks) -> Ranks:
    if rng.uniform() < DISCIPLINE:
        return ranks
    one, other = rng.choice(len(ranks), 2, replace=False)
    ranks[[one, other]] = ranks[[other, one]]
    return ranks
