"""The frames of a video file by their numbers: exactly those of reading it from the start."""

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

CACHE_BYTES = 128 << 20  # bytes of decoded pictures that are kept, for steps back
_DELAY = 64  # packets after which a picture that has not come will not come

_Run = Generator[tuple[int, av.VideoFrame | None], None, None]
"""Frames one after the other, with their numbers; None: black."""


class _DoubtError(Exception):
    """Decoding from a key frame does not surely give the pictures of the whole video."""


class RandomAccess:
    """Reads the frames of a file in any order; neighbours of the last one come soon.

    Decoding begins at the key frame before the frame that is wanted, where that resets the decoder
    and what follows decodes without error. Otherwise it begins where ``find_start`` says, at worst
    at the first frame, so that pictures are always those of ``VideoReader``. Not for several
    threads at a time.

    Args:
        path: the video.
        scan: of the same file.
        convert: of the same video.
    """

    def __init__(self, path: Path, scan: Scan, convert: RgbConverter) -> None:
        self._path, self._scan, self._convert = path, scan, convert
        self._held: OrderedDict[int, av.VideoFrame | None] = OrderedDict()
        self._keys = [key for key in scan.key_frames if key.is_ahead] if scan.is_seekable else []
        self._ticks = np.array([key.tick for key in self._keys], np.int64)
        self._run: _Run | None = None
        self._next = 0  # no frame before this one comes from the run
        self._closing = ExitStack()
        self._container, self._stream = self._closing.enter_context(open_video(path))
        # an error that the decoder would conceal is to be one
        self._stream.codec_context.options = {"err_detect": "explode"}

    def close(self) -> None:
        """Close the file."""
        self._begin(None, 0)
        self._closing.close()

    def __len__(self) -> int:
        """The number of frames."""
        return self._scan.frames

    def is_near(self, number: int) -> bool:
        """Whether a frame is decoded already, or is the next one."""
        return number in self._held or (self._run is not None and number == self._next)

    def read(self, number: int) -> np.ndarray:
        """A frame as ``(H, W, 3)`` uint8 RGB.

        One that cannot be decoded shows the last good picture, or black where there is none.

        Raises:
            IndexError: there is no such frame.
            InputError: the file can no longer be opened, or its pictures not be converted.
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
        """The last key frame up to a frame, and its own number; None: there is none."""
        if not self._keys:
            return None, 0
        place = int(np.searchsorted(self._ticks, self._scan.shown[number], side="right")) - 1
        if place < 0:
            return None, 0
        return self._keys[place], int(np.searchsorted(self._scan.shown, self._ticks[place]))

    def _begin(self, run: _Run | None, first: int) -> None:
        """Put another run in the place of the one that there is."""
        if self._run is not None:
            self._run.close()
        self._run, self._next = run, first

    def _advance(self, number: int) -> None:
        """Let the run give pictures until a frame has come.

        Raises:
            _DoubtError: it does not come.
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
        """The frames from a key frame on, in order.

        Raises:
            _DoubtError: something is odd, so that they may not be those of the whole video.
        """
        context, shown = self._stream.codec_context, self._scan.shown
        context.flush_buffers()
        decoder = Decoder(self._container, self._stream, self._scan.shifts, "AUTO")
        waiting: dict[int, int] = {}  # tick of each packet whose picture has not come, by number
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
        """The frames as ``VideoReader`` gives them; the last good one fills gaps."""
        good, at = None, start.number if start else 0
        for picture in decode(self._path, self._scan, start):
            good = picture.frame or good
            yield at, good
            at += 1
        for missing in range(at, len(self)):  # the file ends before its packets said
            yield missing, good


def _size_of(picture: av.VideoFrame | None) -> int:
    """Bytes that a picture takes."""
    return 0 if picture is None else sum(plane.buffer_size for plane in picture.planes)
