"""Freed memory is kept by the process and reused for the next frame."""

import ctypes
import subprocess
import sys

import pytest

FREED = 8 * 16 * 2**20  # bytes

KEPT = """
import ctypes, sys
import torch
from queryinst_vis.utils.allocator import keep_freed_memory


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
        .split()
    ]


def free_bytes():
    '''What malloc holds that nobody uses.'''
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    return mallinfo2().fordblks


if sys.argv[1] == "keep":
    keep_freed_memory()
maps = [torch.zeros(4 * 2**20) for _ in range(8)]  # 16 MiB each
before = free_bytes()
del maps
print(free_bytes() - before)
"""


def kept_bytes(mode):
    """How many of the freed bytes malloc keeps for reuse."""
    run = subprocess.run(
        [sys.executable, "-c", KEPT, mode], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="the setting, and what tells of it, are glibc's",
)
def test_large_freed_blocks_are_reused():
    assert kept_bytes("keep") >= 0.9 * FREED
    assert kept_bytes("default") <= 0.1 * FREED
