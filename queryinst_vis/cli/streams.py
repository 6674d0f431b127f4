"""Handling of standard output and error that are closed, full, or have a limited encoding."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

from queryinst_vis.errors import InputError


def prepare_streams() -> None:
    """Keep a command running when its output is closed.

    Characters that cannot be encoded, and file names that are not valid text, are escaped.
    """
    sys.stdout = _prepared(sys.stdout, 1)
    sys.stderr = _prepared(sys.stderr, 2)


def _prepared(stream: Any, number: int) -> Any:
    if stream is None:  # closed from the start
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Unbreakable(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or stream.isatty(),
    )


class _Unbreakable(io.FileIO):
    """A stream that discards output once its reader is gone; a full disk is reported once."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, self.fileno())
            os.close(sink)
            gone = error.errno in (errno.EPIPE, errno.EIO)  # EIO: the terminal was closed
            if self.fileno() == 1 and not gone:
                raise InputError(f"cannot write standard output: {error.strerror}") from error
            return len(memoryview(data).cast("B"))
