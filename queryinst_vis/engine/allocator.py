"""How freed memory is kept for the next frame."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LIMIT = 512 * 2**20  # bytes


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
