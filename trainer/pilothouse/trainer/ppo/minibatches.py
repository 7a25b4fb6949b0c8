"""Which sequences learn together, and where.

Minibatches share one optimiser step, micro-batches one forward pass, shares one rank.
"""

from collections.abc import Iterable, Sequence

import numpy as np


def minibatches(generator: np.random.Generator, rows: int, count: int) -> list[list[int]]:
    """Returns ``count`` disjoint lists that cover 0 to ``rows`` - 1, shuffled anew at each call.

    A list may be one longer than another; with more lists than rows there are only as many lists as rows.
    """
    return [part.tolist() for part in np.array_split(generator.permutation(rows), min(count, rows))]


def shares(lengths: Sequence[int], ranks: int) -> list[set[int]]:
    """Returns the rows of each rank: longest first, each to whoever has the fewest tokens so far.

    A rank has at least one row where there are as many rows as ranks.

    Args:
        lengths: Tokens of every sequence of the batch, at least 1.
        ranks: How many there are.
    """
    found: list[set[int]] = [set() for _ in range(ranks)]
    tokens = [0] * ranks
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        least = tokens.index(min(tokens))
        found[least].add(row)
        tokens[least] += lengths[row]
    return found


def micro_batches(rows: Iterable[int], lengths: Sequence[int], budget_tokens: int) -> list[list[int]]:
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
