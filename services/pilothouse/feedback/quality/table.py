"""Judgements as arrays. Axes: N judgements, K answers (the most of any task), T tasks, R raters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilothouse.feedback.quality.judgements import Judgement

Reals = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """All judgements, by task and within a task by time. One judgement for each rater of a task."""

    tasks: tuple[str, ...]
    """T names, sorted."""
    raters: tuple[str, ...]
    """R names, sorted."""
    task: Whole
    """[N], ascending."""
    rater: Whole
    """[N]."""
    size: Whole
    """[N] how many answers the task has."""
    signs: Reals
    """[N, K, K]: 1 where the first answer is preferred to the second, -1 where the second is, 0 for a tie and
    beyond the task's answers."""
    order: Whole
    """[N, K] positions as shown; ascending where unknown."""
    shown: Flags
    """[N] whether the order is known."""
    gold: Reals
    """[N, K, K] right signs; 0 where the task is not gold."""
    longer: Reals
    """[N, K, K]: 1 where the first answer is longer than the second, -1 shorter, 0 equal or unknown."""
    seconds: Reals
    """[N], 0 where unknown."""
    at: Reals
    """[N]."""

    @property
    def answers(self) -> Flags:
        """[N, K]: which places hold an answer."""
        return np.asarray(np.arange(self.signs.shape[1]) < self.size[:, None])

    @property
    def votes(self) -> Reals:
        """[N, K, K]: 1 for the first answer preferred to the second, 1/2 for a tie, 0 else."""
        answers = self.answers
        tied = answers[:, :, None] & answers[:, None, :] & (self.signs == 0)
        tied &= ~np.eye(self.signs.shape[1], dtype=np.bool_)
        return np.asarray(np.maximum(self.signs, 0.0) + tied / 2)

    @property
    def margins(self) -> Reals:
        """[N, K]: how many answers each is preferred to, less those preferred to it.

        K + 1 - 2 r for the mid-rank r: equal ranks take the mean of the places that they share.
        """
        return np.asarray(self.signs.sum(axis=2))

    @property
    def shared(self) -> Flags:
        """[N]: whether somebody else answered the task too."""
        return np.asarray(np.bincount(self.task, minlength=1)[self.task] > 1)

    @property
    def is_gold(self) -> Flags:
        """[N]: whether right ranks are known."""
        return np.asarray(self.gold.any(axis=(1, 2)))

    def by_task(self, values: Reals) -> Reals:
        """Sums [N, ...] to [T, ...]."""
        starts = np.searchsorted(self.task, np.arange(len(self.tasks)))
        return np.asarray(np.add.reduceat(values, starts, axis=0))

    def by_rater(self, values: npt.ArrayLike) -> Reals:
        """Sums [N] to [R]."""
        return np.bincount(self.rater, values, len(self.raters)).astype(np.float64)

    def as_shown(self, values: Reals) -> Reals:
        """Puts [N, K] into the order in which the rater saw the answers."""
        return np.take_along_axis(values, self.order, axis=1)


def tabulate(judgements: Sequence[Judgement]) -> Table:
    """Puts judgements into arrays, in whatever order they come; of several by a rater on a task the last.

    Raises:
        ValueError: Two judgements of a task have different numbers of answers.
    """
    latest = {
        (item.task, item.rater): item for item in sorted(judgements, key=lambda item: (item.at, item.ranks))
    }
    rows = sorted(latest.values(), key=lambda item: (item.task, item.at, item.rater))
    tasks = sorted({item.task for item in rows})
    raters = sorted({item.rater for item in rows})
    task = _numbers([item.task for item in rows], tasks)
    size = np.array([len(item.ranks) for item in rows], dtype=np.int64)
    _check_sizes(tasks, task, size)
    width = int(size.max(initial=2))
    return Table(
        tasks=tuple(tasks),
        raters=tuple(raters),
        task=task,
        rater=_numbers([item.rater for item in rows], raters),
        size=size,
        signs=-_signs([item.ranks for item in rows], width),
        order=np.array([_filled(item.order, width) for item in rows], dtype=np.int64).reshape(-1, width),
        shown=np.array([bool(item.order) for item in rows], dtype=np.bool_),
        gold=-_signs([item.gold for item in rows], width),
        longer=_signs([item.lengths for item in rows], width),
        seconds=np.array([item.seconds for item in rows], dtype=np.float64),
        at=np.array([item.at for item in rows], dtype=np.float64),
    )


def _numbers(values: list[str], names: list[str]) -> Whole:
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[value] for value in values], dtype=np.int64)


def _filled(order: tuple[int, ...], width: int) -> tuple[int, ...]:
    return order + tuple(range(len(order), width))


def _signs(rows: list[tuple[int, ...]], width: int) -> Reals:
    """Returns [N, K, K], the sign of the first value minus the second; 0 beyond the values of a row."""
    padded = np.array([row + (0,) * (width - len(row)) for row in rows], dtype=np.float64).reshape(-1, width)
    given = np.arange(width) < np.array([len(row) for row in rows], dtype=np.int64)[:, None]
    signs = np.sign(padded[:, :, None] - padded[:, None, :])
    return np.asarray(signs * (given[:, :, None] & given[:, None, :]))


def _check_sizes(tasks: list[str], task: Whole, size: Whole) -> None:
    torn = np.flatnonzero((task[1:] == task[:-1]) & (size[1:] != size[:-1]))
    if len(torn):
        row = torn[0]
        raise ValueError(
            f"task {tasks[task[row]]}: one judgement has {size[row]} answers and another {size[row + 1]}; "
            "all judgements of a task must rank the same answers"
        )
