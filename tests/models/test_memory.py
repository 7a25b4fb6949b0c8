"""Pages of their own are taken where they are written, and given back; freed memory can be kept."""

import platform
import subprocess
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
    memory = zeros((SIZE_BYTES // 4,), torch.float32, torch.device("cpu"), sparse=True)
    assert memory.sum() == 0
    assert resident_bytes() - before < SIZE_BYTES // 4
    memory.fill_(1)
    assert resident_bytes() - before > SIZE_BYTES // 2
    del memory
    assert resident_bytes() - before < SIZE_BYTES // 4


REPEATED_WORK = """
import os, resource, torch
from pilothouse.models.memory import keep_freed_memory

def faults_of_a_batch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20) + 1  # two tensors of 40 MiB: more than malloc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults_of_a_batch()
print(max(faults_of_a_batch() for _ in range(5)), os.environ.get("THP_MEM_ALLOC_ENABLE"))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's malloc")
def test_a_process_that_keeps_freed_memory_takes_no_new_pages_for_the_next_batch() -> None:
    run = subprocess.run([sys.executable, "-c", REPEATED_WORK], capture_output=True, text=True, check=True)
    faults, variable = run.stdout.split()
    assert int(faults) < 2_000  # they have 20,480 small pages
    assert variable == "None"  # child processes do not inherit it
