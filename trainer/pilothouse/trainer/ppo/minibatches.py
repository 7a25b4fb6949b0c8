"""Which sequences learn together: minibatches share one optimiser step, micro-batches one forward pass."""

from collections.abc import Sequence

import numpy as np


def minibatches(generator: np.random.Generator, rows: int, count: int) -> list[list[int]]:
    """Returns ``count`` disjoint lists that cover 0 to ``rows`` - 1, shuffled anew at each call.

    A list may be one longer than another; with more lists than rows there are only as many lists as rows.
    """
    return [part.tolist() for part in np.array_split(generator.permutation(rows), min(count, rows))]


def micro_batches(rows: Sequence[int], lengths: Sequence[int], budget_tokens: int) -> list[list[int]]:
    """Returns ``rows`` in lists of at most ``budget_tokens`` tokens each, longest sequences first.

    Equal lengths end up side by side, which is what packed attention is fastest at. The order depends on the
    lengths and numbers of the rows alone. A sequence longer than the budget gets a list of its own.

    Args:
        rows: Sequence numbers.
        lengths: Tokens of every sequence of the batch.
        budget_tokens: At least 1.
    """
    lists: list[list[int]] = []
    room = 0
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        if not lists or lengths[row] > room:
            lists.append([])
            room = budget_tokens
        lists[-1].append(row)
        room -= lengths[row]
    return lists
