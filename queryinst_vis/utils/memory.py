"""What the evaluation asks of Python's and the C library's memory management."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_KEPT = 1 << 24
"""Bytes; twice as many may stay with the process when they are freed."""


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
