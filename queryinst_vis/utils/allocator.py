"""Process-wide settings: memory allocator, oneDNN kernel cache, garbage collector."""

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
_KEPT = 1 << 24  # bytes; up to twice as many are kept by the process after freeing


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of returning them to the system.

    A network allocates the same feature maps for every frame. By default, glibc returns them to the
    system each time, and zeroing new pages takes up to a fifth of the run time of a small network.
    As this affects the whole process, it is called only by commands, not by the library. No effect
    with another C library.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_TRIM_THRESHOLD, _LIMIT)
        library.mallopt(_MMAP_THRESHOLD, _LIMIT)


def keep_compiled_kernels() -> None:
    """Let oneDNN cache the kernels of all shapes in training, instead of the last 1024.

    oneDNN compiles a kernel for every shape of every layer and direction. Varying image sizes and
    numbers of matched queries need several thousand, which would be recompiled repeatedly. Must be
    called before PyTorch is imported; a value set by the user is kept.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))


@contextmanager
def steady_memory() -> Iterator[None]:
    """Reduce the overhead of allocating millions of small objects and thousands of arrays.

    Parsed files consist of hundreds of thousands of dicts and lists without cycles, so garbage
    collection only costs time. In addition, glibc returns freed memory to the system, which must
    provide it again page by page for the arrays of the next video, unless a large block has been
    freed before.
    """
    np.empty(_KEPT, dtype=np.uint8)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
