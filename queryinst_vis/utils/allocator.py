"""What a process keeps between frames and steps: freed memory and compiled kernels."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LIMIT = 512 * 2**20  # bytes
_KERNELS = 20000


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
