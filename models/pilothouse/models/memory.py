"""Memory in pages of its own, for what is large and lives long."""

import mmap
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

LARGE_BYTES = 2**20
"""From here on a tensor is worth pages of its own."""


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns zeroed memory; a large tensor on the CPU in pages of its own.

    They go back to the system with the tensor, where malloc would keep splinters of a model that is replaced
    again and again. The system hands them out as they are first written, and in its smallest size: a huge
    page would make a whole slot of a KV cache resident with its first token.
    """
    size_bytes = prod(shape) * dtype.itemsize
    if device.type != "cpu" or size_bytes < LARGE_BYTES:
        return torch.zeros(tuple(shape), dtype=dtype, device=device)
    # Private: in shared memory a page is taken when it is read, and attention reads past the short rows.
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))
