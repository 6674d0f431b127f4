"""What a process keeps: freed memory, compiled kernels, and cyclic garbage for a while."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LIMIT = 512 * 2**20  # bytes
_KERNELS = 20000
_KEPT = 1 << 24  # bytes; twice as many may stay with the process when they are freed


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the system and asking anew.

    A network allocates the same feature maps for every frame. By default glibc gives them back
    after each, and the system's filling fresh pages with zeros costs up to a fifth of the time of
    a small network. Changes the whole process, so that only commands call it, not the library;
    does nothing with another C library.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _LIMIT)
        library.mallopt(_MMAP_THRESHOLD, _LIMIT)


def keep_compiled_kernels() -> None:
    """Let oneDNN keep the kernels of all shapes that a training meets, instead of the last 1024.

    It compiles a kernel for every shape of every layer and direction. Images of many sizes and a
    changing number of matched queries make several thousand, which would be compiled over and
    over. Has to be called before PyTorch is imported; a value set by the user stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))


@contextmanager
def steady_memory() -> Iterator[None]:
    """Take and free millions of small objects and thousands of arrays without side costs.

    Files become hundreds of thousands of dicts and lists without cycles, so that looking for
    cycles among them, and among all that was imported, only takes time. And glibc hands freed
    memory back to the system, which has to give it again, page by page, for the next video's
    arrays, unless it has seen a large block being freed.
    """
    np.empty(_KEPT, dtype=np.uint8)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
