"""Decoding in a separate process, so that a broken video does not affect others."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import cache
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Literal

import numpy as np

from queryinst_vis.batch.decoder_process import (
    SLOTS,
    DecodedFrame,
    DecodeWarning,
    Ended,
    Fault,
    Opened,
    decode_video,
    slots_of,
)
from queryinst_vis.batch.options import RunOptions, Video
from queryinst_vis.batch.segments import Cut, Cutting
from queryinst_vis.errors import InputError
from queryinst_vis.video.frames import Frame

FailureKind = Fault | Literal["crash", "hang", "output", "worker", "driver"]
"""The kind of a failed attempt."""

_POLL_INTERVAL = 0.005  # seconds between checks for a frame while iterating
_EXIT_TIMEOUT = 2.0  # seconds
_SHARED = Path("/dev/shm")  # Linux: the folder of shared memory


class VideoFailedError(InputError):
    """A video could not be decoded.

    Attributes:
        kind: of the failure.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@cache
def _context(imports: tuple[str, ...]) -> Any:
    """A fork server that preloads the decoder but not torch; spawn where not supported.

    The worker itself cannot be forked, since it has threads and a network. Every decoder imports
    what the worker's main module imports, such as Ray, which preloading makes cheap.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["queryinst_vis.batch.decoder_process", *imports])
    return context


class DecodedVideo:
    """A ``Source`` whose frames another process decodes; also a ``Feed`` of ``side_by_side``.

    Args:
        video: to decode.
        folder: for downloads; the caller removes it after ``close``.
        run: with limits on memory and time.
        cutting: how to cut a long video instead of decoding it; None: do not cut it.
        imports: modules that every decoder imports anyway, for the process it is forked from.

    Attributes:
        opened: properties of the video; None until ``is_open`` has returned true.
        cut: segments of a long video; None if it is not cut.
        ended: no further frame will come.
        warnings: from decoding, complete once ``ended``.
    """

    is_live = False
    fault = None

    def __init__(
        self,
        video: Video,
        folder: Path,
        run: RunOptions,
        cutting: Cutting | None = None,
        imports: tuple[str, ...] = (),
    ) -> None:
        self.name, self.origin = video.name, video.origin
        self.opened: Opened | None = None
        self.cut: Cut | None = None
        self.ended = False
        self.warnings: list[DecodeWarning] = []
        self._run = run
        self._ring: SharedMemory | None = None
        self._slots: np.ndarray | None = None
        context = _context(imports)
        self._connection, theirs = context.Pipe()
        arguments = video, folder, theirs, run.decode_memory, cutting
        self._process = context.Process(target=decode_video, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._start = self._last = time.monotonic()
        self._waited = 0.0  # seconds of waiting for the decoder
        self._missed: float | None = None  # time of the last poll, if there was no message

    @property
    def fps(self) -> float | None:
        """As for ``Source``."""
        return self._known.fps

    @property
    def pixel_aspect(self) -> Fraction:
        """As for ``Source``."""
        return self._known.pixel_aspect

    @property
    def path(self) -> Path | None:
        """As for ``Source``."""
        return self._known.path

    @property
    def seconds(self) -> float:
        """Duration of decoding so far in seconds, including waits for the consumer."""
        return self._last - self._start

    def __len__(self) -> int:
        if self._known.length is None:
            raise TypeError("the number of frames of this source is unknown")
        return self._known.length

    @property
    def _known(self) -> Opened:
        if self.opened is None:
            raise ValueError("the video is not open yet")
        return self.opened

    def frames(self) -> Iterator[Frame]:
        """Iterate over the frames, once; blocks until they arrive."""
        while not self.ended:
            frame = self.poll()
            if frame is not None:
                yield frame
            elif not self.ended:
                time.sleep(_POLL_INTERVAL)

    def is_open(self) -> bool:
        """Whether the video is open, or has been cut, without waiting.

        Raises:
            VideoFailedError: it cannot be opened.
        """
        if self.opened is None and self.cut is None:
            message = self._receive()
            if isinstance(message, Cut):
                self.cut = message
            elif isinstance(message, Opened):
                self.opened = message
                frame_bytes = int(np.prod(message.shape))
                self._ring = self._reserve(SLOTS * frame_bytes)
                self._slots = slots_of(self._ring, message.shape)
                self._connection.send(self._ring.name)
        return self.opened is not None or self.cut is not None

    def _reserve(self, size: int) -> SharedMemory:
        """Shared memory of this size, which is reserved: a shortage would kill the decoder later.

        Raises:
            VideoFailedError: there is not enough of it.
        """
        memory = SharedMemory(create=True, size=size)
        file = _SHARED / memory.name
        if file.exists():  # only on Linux
            descriptor = os.open(file, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno != errno.ENOSPC:  # a file system that cannot reserve
                    return memory
                memory.close()
                memory.unlink()
                raise self._failed(
                    "memory",
                    f"needs {size / 1e6:.0f} MB of shared memory for its frames, which {_SHARED} "
                    "lacks; enlarge it (docker run --shm-size), or process fewer streams",
                ) from None
            finally:
                os.close(descriptor)
        return memory

    def poll(self) -> Frame | None:
        """The next frame; None if none is ready, or at the end.

        Raises:
            VideoFailedError: decoding failed, the process died, or a time limit was exceeded.
        """
        message = None if self.ended else self._receive()
        if not isinstance(message, DecodedFrame):
            return None
        image = message.image
        if image is None:
            assert self._slots is not None
            image = self._slots[message.slot].copy()
            with suppress(OSError):  # the process has sent all frames and exited
                self._connection.send(message.slot)
        return Frame(message.number, message.seconds, image, message.is_damaged)

    def close(self) -> None:
        """Kill the process and free the shared memory."""
        self.ended = True
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._slots = None
        if self._ring is not None:
            ring, self._ring = self._ring, None
            ring.close()
            with suppress(FileNotFoundError):  # the decoder has mapped and unlinked it
                ring.unlink()

    def _receive(self) -> Opened | Cut | DecodedFrame | None:
        """The next message; None if there is none yet, or after the last one."""
        now = time.monotonic()
        try:
            message = self._connection.recv() if self._connection.poll() else None
        except (EOFError, ConnectionError):
            raise self._failed("crash", self._exit_reason()) from None
        # between two polls without a message, the decoder is the one that everybody waits for
        if message is None and self._missed is not None:
            self._waited += now - self._missed
        self._missed = now if message is None else None
        limit = self._run.decode_time
        if limit is not None and self._waited > limit:
            raise self._failed("hang", f"took longer than {limit:g} s (--decode-time)")
        if message is None:
            if now - self._last > self._run.decode_silence:
                silence = f"{self._run.decode_silence:g} s"
                raise self._failed("hang", f"delivered no frame for {silence} (--decode-silence)")
            return None
        self._last = now
        if isinstance(message, Ended):
            self.warnings = message.warnings
            if message.kind is not None:
                raise self._failed(message.kind, message.reason)
            self.close()
            return None
        return message

    def _exit_reason(self) -> str:
        self._process.join(_EXIT_TIMEOUT)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the decoder was killed by {signal.Signals(-code).name}"
        return f"the decoder ended with exit status {code}"

    def _failed(self, kind: FailureKind, reason: str) -> VideoFailedError:
        self.close()
        return VideoFailedError(
            kind, f"video {self.origin}: {reason}" if kind != "input" else reason
        )
