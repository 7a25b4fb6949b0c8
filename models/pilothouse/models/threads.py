"""Threads of torch's operators."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[int]:
    """Runs a block's operators on the calling thread alone; yields the number of threads outside the block.

    OpenMP keeps a pool of threads per calling thread. Once there are more of them than cores, all pools
    wait passively and every operator of a decode step pays for waking them: twice the time of a step at
    batch 1. So what loads a model on one thread and computes with it on another loads it inside this block.
    Short work beside other processes goes there too: a second thread would mostly wait, on a core they need.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
