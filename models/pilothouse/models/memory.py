"""Memory: pages of its own for what is large and lives long, freed memory kept for what does not."""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Sequence
from functools import cache
from math import prod

import torch
from torch import Tensor

LARGE_BYTES = 2**20
"""From here on a tensor is worth pages of its own."""
HUGE_BYTES = 2**25
"""From here on a tensor that is read as a whole is read faster in huge pages; smaller ones are not."""


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device, *, sparse: bool = False) -> Tensor:
    """Returns zeroed memory; a large tensor on the CPU in pages of its own.

    They go back to the system with the tensor, where malloc would keep splinters of a model that is replaced
    again and again. The system hands them out as they are first written.

    Args:
        shape: Of the tensor.
        dtype: Of its elements.
        device: Where it lies.
        sparse: Written here and there: in small pages whatever its size. A huge page would make a whole slot
            of a KV cache resident with its first token.
    """
    size_bytes = prod(shape) * dtype.itemsize
    if device.type != "cpu" or size_bytes < LARGE_BYTES:
        return torch.zeros(tuple(shape), dtype=dtype, device=device)
    # Private: in shared memory a page is taken when it is read, and attention reads past the short rows.
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        huge = size_bytes >= HUGE_BYTES and not sparse
        with contextlib.suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))


_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""Read by torch at its first tensor: tensors of 2 MiB and more in huge pages."""
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""glibc's names for ``mallopt``."""


@cache
def keep_freed_memory() -> None:
    """Lets a process that computes batch after batch keep the memory it has freed, in huge pages.

    A training step makes and drops thousands of tensors of some megabytes. malloc gives them back to the
    system, which clears every page anew when the next one is written: a seventh of a step of SmolLM2.
    Call it before the first tensor: later, torch no longer looks for huge pages. Where the C library is not
    glibc, malloc stays as it is.
    """
    before = os.environ.get(_HUGE_PAGES)
    os.environ[_HUGE_PAGES] = before or "1"
    torch.empty(1)
    if before is None:
        del os.environ[_HUGE_PAGES]  # child processes decide for themselves
    if hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, -1)  # never
        library.mallopt(_ARENA_MAX, 1)  # what one thread has freed, another may take
        library.mallopt(_MMAP_MAX, 0)  # nothing in pages of its own, which would go back at once
