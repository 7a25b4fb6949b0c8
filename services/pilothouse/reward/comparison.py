"""How two reward models' scores of the same rows compare, gathered batch by batch. Axes: B rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from pilothouse.tensors import Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences are candidate minus serving."""

    rows: int = 0
    """Rows that both have scored."""
    mean: float = 0.0
    """Mean difference."""
    squares: float = 0.0
    """Sum of squared deviations from the mean difference."""
    largest: float = 0.0
    """Largest absolute difference."""
    pairs: int = 0
    """Pairs of rows with the same prompt that the serving model does not tie."""
    agreed: float = 0.0
    """Those of them that the candidate orders the same; a tie of its own counts one half."""

    @property
    def std(self) -> float:
        """Population standard deviation of the differences; 0 without rows."""
        return sqrt(self.squares / self.rows) if self.rows else 0.0

    @property
    def agreement(self) -> float:
        """Share of pairs that both order the same; 0 without pairs."""
        return self.agreed / self.pairs if self.pairs else 0.0

    def with_batch(self, serving: Floats, candidate: Floats, groups: Sequence[Sequence[int]]) -> "Comparison":
        """Returns the comparison over one more batch; moments are merged as in Chan et al. 1983.

        Args:
            serving: [B], B at least 1.
            candidate: [B].
            groups: Numbers of the rows that share a prompt.
        """
        difference = candidate.astype(np.float64) - serving.astype(np.float64)
        mean, count = float(difference.mean()), len(difference)
        total = self.rows + count
        between = (mean - self.mean) ** 2 * self.rows * count / total
        pairs = [_pairs(serving[list(group)], candidate[list(group)]) for group in groups]
        return Comparison(
            rows=total,
            mean=self.mean + (mean - self.mean) * count / total,
            squares=self.squares + float(np.square(difference - mean).sum()) + between,
            largest=max(self.largest, float(np.abs(difference).max())),
            pairs=self.pairs + sum(count for count, _ in pairs),
            agreed=self.agreed + sum(agreed for _, agreed in pairs),
        )


def _pairs(serving: Floats, candidate: Floats) -> tuple[int, float]:
    """Returns how many pairs the serving model orders, and how many of them the candidate orders the same."""
    first, second = np.triu_indices(len(serving), k=1)
    ours = np.sign(serving[first] - serving[second])
    theirs = np.sign(candidate[first] - candidate[second])[ours != 0]
    ours = ours[ours != 0]
    return len(ours), float((ours == theirs).sum() + 0.5 * (theirs == 0).sum())
