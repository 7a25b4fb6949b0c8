"""Memory in pages of its own is taken where it is written, and given back."""

import sys
from pathlib import Path

import pytest
import torch

from pilothouse.models.memory import zeros

SIZE_BYTES = 64 * 2**20


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_are_taken_where_they_are_written_not_where_they_are_read() -> None:
    before = resident_bytes()
    memory = zeros((SIZE_BYTES // 4,), torch.float32, torch.device("cpu"))
    assert memory.sum() == 0
    assert resident_bytes() - before < SIZE_BYTES // 4
    memory.fill_(1)
    assert resident_bytes() - before > SIZE_BYTES // 2
    del memory
    assert resident_bytes() - before < SIZE_BYTES // 4
