"""A small world to learn in, alone or on several ranks that live in threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.trainer.ppo.world import World
from torch import Tensor

from pilothouse.trainer.ppo.ragged import Ranks


@pytest.fixture
def world() -> World:
    return World()


class ThreadRanks:
    """One of several learners that live in threads of this process."""

    def __init__(self, index: int, size: int, shared: dict[int, Tensor], barrier: threading.Barrier) -> None:
        self.index, self.size, self._shared, self._barrier = index, size, shared, barrier

    def _gather(self, tensor: Tensor) -> Tensor:
        self._shared[self.index] = tensor.clone()
        self._barrier.wait(timeout=60)
        gathered = torch.stack([self._shared[rank] for rank in range(self.size)])
        self._barrier.wait(timeout=60)
        return gathered

    def sum(self, tensor: Tensor) -> Tensor:
        return self._gather(tensor).sum(0)

    def max(self, tensor: Tensor) -> Tensor:
        return self._gather(tensor).amax(0)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.copy_(self.sum(tensor))


@pytest.fixture
def on_ranks() -> Callable[[int, Callable[[Ranks], Any]], list[Any]]:
    """``on_ranks(size, work)``: what ``work(ranks)`` returns on each of ``size`` ranks."""

    def run(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
        shared: dict[int, Tensor] = {}
        barrier = threading.Barrier(size)

        def one(index: int) -> Any:
            try:
                return work(ThreadRanks(index, size, shared, barrier))
            except BaseException:
                barrier.abort()
                raise

        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(one, range(size)))

    return run
