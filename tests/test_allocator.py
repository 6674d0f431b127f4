"""Freed memory stays with the process: the next frame finds it."""

import resource
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from queryinst_vis.utils.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()


def frames(count):
    for _ in range(count):
        maps = [torch.zeros(4 * 2**20) for _ in range(8)]  # 16 MiB each


frames(5)  # the first ones find their places
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
frames(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    run = subprocess.run(
        [sys.executable, "-c", COUNT, mode], capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_large_blocks_are_used_again():
    pages = 5 * 8 * 16 * 2**20 // resource.getpagesize()
    default = faults("default")
    if default < pages / 100:
        pytest.skip("this system fills pages in without counting them, or malloc is not glibc's")
    assert faults("keep") < default / 10
