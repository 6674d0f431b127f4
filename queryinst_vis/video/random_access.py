"""Random access to the frames of a video file, identical to those of sequential reading."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np

from queryinst_vis.video.container import open_video
from queryinst_vis.video.decode import decode
from queryinst_vis.video.packets import Decoder, NotThereError, number_of
from queryinst_vis.video.rgb import RgbConverter
from queryinst_vis.video.scan import KeyFrame, Scan, is_shown
from queryinst_vis.video.seek import Start, find_start, resets_decoder

CACHE_BYTES = 128 << 20  # bytes of decoded frames in the cache, for backward steps
_DELAY = 64  # packets after which a missing frame is not expected any more

_Run = Generator[tuple[int, av.VideoFrame | None], None, None]
"""Consecutive frames with their numbers; None: black."""


class _DoubtError(Exception):
    """Decoding from a key frame may not yield the same frames as sequential reading."""


class RandomAccess:
    """Reads the frames of a file in any order; frames close to the last one are fast.

    Decoding starts at the last key frame before the requested frame, if it resets the decoder and
    the following frames decode without error. Otherwise, it starts at ``find_start``, in the worst
    case at the first frame, so that frames are always identical to those of ``VideoReader``. Not
    thread-safe.

    Args:
        path: the video.
        scan: scan of the same file.
        convert: converter for the same video.
    """

    def __init__(self, path: Path, scan: Scan, convert: RgbConverter) -> None:
        self._path, self._scan, self._convert = path, scan, convert
        self._held: OrderedDict[int, av.VideoFrame | None] = OrderedDict()
        self._keys = [key for key in scan.key_frames if key.is_ahead] if scan.is_seekable else []
        self._ticks = np.array([key.tick for key in self._keys], np.int64)
        self._run: _Run | None = None
        self._next = 0  # the run yields only frames from this number on
        self._closing = ExitStack()
        self._container, self._stream = self._closing.enter_context(open_video(path))
        # report errors that the decoder would conceal
        self._stream.codec_context.options = {"err_detect": "explode"}

    def close(self) -> None:
        """Close the file."""
        self._begin(None, 0)
        self._closing.close()

    def __len__(self) -> int:
        """The number of frames."""
        return self._scan.frames

    def read(self, number: int) -> np.ndarray:
        """A frame as ``(H, W, 3)`` uint8 RGB.

        A frame that cannot be decoded is replaced by the last good one, or black.

        Raises:
            IndexError: the number is out of range.
            InputError: the file can no longer be opened, or its pixel format not converted.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        if number not in self._held:
            self._decode(number)
        self._held.move_to_end(number)
        picture = self._held[number]
        if picture is None:
            return np.zeros((self._convert.height, self._convert.width, 3), np.uint8)
        return self._convert(picture)

    def _decode(self, number: int) -> None:
        key, first = self._key_before(number)
        if self._run is None or not first <= self._next <= number:
            self._begin(None if key is None else self._from_key(key), first)
        try:
            self._advance(number)
        except _DoubtError:
            start = find_start(self._path, self._scan, number)
            self._begin(self._as_reader(start), start.number if start else 0)
            self._advance(number)

    def _key_before(self, number: int) -> tuple[KeyFrame | None, int]:
        """The last key frame up to a frame, and its frame number; None without a key frame."""
        if not self._keys:
            return None, 0
        place = int(np.searchsorted(self._ticks, self._scan.shown[number], side="right")) - 1
        if place < 0:
            return None, 0
        return self._keys[place], int(np.searchsorted(self._scan.shown, self._ticks[place]))

    def _begin(self, run: _Run | None, first: int) -> None:
        """Replace the current run."""
        if self._run is not None:
            self._run.close()
        self._run, self._next = run, first

    def _advance(self, number: int) -> None:
        """Decode up to a frame.

        Raises:
            _DoubtError: the run ends before this frame.
        """
        if self._run is not None:
            for found, picture in self._run:
                self._hold(found, picture)
                self._next = found + 1
                if found == number:
                    return
        raise _DoubtError

    def _hold(self, number: int, picture: av.VideoFrame | None) -> None:
        self._held.pop(number, None)
        self._held[number] = picture
        most = max(2, CACHE_BYTES // max(1, _size_of(picture)))
        while len(self._held) > most:
            self._held.popitem(last=False)

    def _from_key(self, key: KeyFrame) -> _Run:
        """Decode from a key frame, in order.

        Raises:
            _DoubtError: there is an irregularity, so the frames may be wrong.
        """
        context, shown = self._stream.codec_context, self._scan.shown
        context.flush_buffers()
        decoder = Decoder(self._container, self._stream, self._scan.shifts, "AUTO")
        waiting: dict[int, int] = {}  # tick by packet number, for frames not returned yet
        try:
            for number, packet, frames in decoder.run(key):
                if (
                    packet is not None
                    and number == key.number
                    and not resets_decoder(packet, context)
                ):
                    raise _DoubtError
                if packet is not None and is_shown(packet, context.name):
                    if decoder.tick is None:
                        raise _DoubtError
                    if not decoder.is_second_field:
                        waiting[number] = decoder.tick
                for frame in frames:
                    tick = waiting.pop(number_of(frame) or 0, None)
                    is_late = tick is None or any(other < tick for other in waiting.values())
                    if tick is None or is_late or frame.is_corrupt:
                        raise _DoubtError
                    yield int(np.searchsorted(shown, tick)), frame
                if waiting and number - min(waiting) > _DELAY:
                    raise _DoubtError
        except NotThereError as error:
            raise _DoubtError from error

    def _as_reader(self, start: Start | None) -> _Run:
        """Decode as ``VideoReader``; damaged frames are replaced by the last good one."""
        good, number = None, start.number if start else 0
        for picture in decode(self._path, self._scan, start):
            good = picture.frame or good
            yield number, good
            number += 1
        for missing in range(number, len(self)):  # the file ends earlier than its packets indicate
            yield missing, good


def _size_of(picture: av.VideoFrame | None) -> int:
    """Size of a decoded frame in bytes."""
    return 0 if picture is None else sum(plane.buffer_size for plane in picture.planes)
