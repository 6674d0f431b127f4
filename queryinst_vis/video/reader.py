"""Reading video files frame by frame, with constant memory.

The default decoder is PyAV, not decord: as a tracker is slower than a decoder, decord decodes ahead
without limit, using 4.2 GB within 180 frames of 1280x720 instead of 20 MB. It also returns wrong or
no frames from MPEG-TS (see docs/dependencies.md).
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.files import temporary_folder
from queryinst_vis.video.decode import Picture, decode
from queryinst_vis.video.decoders import (
    DECODERS,
    PYAV,
    FrameAccess,
    open_decoder,
    read_in_chunks,
)
from queryinst_vis.video.frames import DamagedFramesWarning, Frame, Selection
from queryinst_vis.video.http import download, is_http
from queryinst_vis.video.random_access import RandomAccess
from queryinst_vis.video.rgb import RgbConverter
from queryinst_vis.video.scan import scan
from queryinst_vis.video.seek import find_start

_SHOWN = "they show the last good frame, without detections"


class _Place(NamedTuple):
    """A frame of the file before conversion.

    Attributes:
        picture: the decoded frame, or the last good one if it is damaged; None: black.
    """

    number: int
    seconds: float
    picture: av.VideoFrame | None
    is_damaged: bool


class VideoReader:
    """The frames of a video file, in order. Can be iterated repeatedly.

    On opening, all packets of the file are read without decoding, to determine the number of frames
    and to detect incomplete files before hours of processing. (A truncated MP4, MOV or AVI file is
    rejected, truncated Matroska is read with a warning, and truncated MPEG-TS cannot be
    detected.)

    Frame numbers are as in a player. A frame that cannot be decoded is replaced by the last good
    one (initially black), and an ``InputWarning`` at the end of the iteration gives the numbers of
    these frames. Frames hidden by an edit list are skipped. Frames are rotated or flipped according
    to the file's display matrix, and HDR is tone-mapped.

    Args:
        path: a file in any format of FFmpeg except playlists; or the http URL of a recording, which
            is downloaded to a temporary folder.
        stride: yield every N-th frame, starting with the first.
        max_frames: maximum number of frames; None: all.
        start: first time in seconds, relative to the first frame; None: from the beginning.
        end: end time in seconds, exclusive; None: to the end.
        start_frame: number of the first frame, 0-based.
        end_frame: frame number, exclusive.
        strict: raise an error on opening if the file differs from its header or frames are missing,
            and during iteration if a frame is damaged.
        allow_partial: accept an MP4, MOV or AVI file whose end is missing.
        decoder: ``"pyav"``, ``"decord"`` or ``"torchcodec"``. The latter two support only intact
            files that need neither rotation nor tone mapping.

    Attributes:
        path: the file; for a URL, the temporary file.
        fps: frames per second after applying ``stride``; the average for variable frame rates.
        is_variable: whether frame times deviate by more than half a frame from a constant rate.
        height, width: of the upright frames, in pixels.
        pixel_aspect: pixel aspect ratio (width / height) of the upright frames.

    Raises:
        InputError: the file does not exist, is not a video, is truncated or has no decodable frame;
            ``stride`` or ``max_frames`` is below 1, or the range contains no frame. Iterating
            raises it for pixel formats that cannot be converted, and with ``strict``.

    Example::

        reader = VideoReader("street.mp4", stride=5)
        for frame in reader:  # (H, W, 3) uint8 RGB
            ...
    """

    def __init__(
        self,
        path: str | Path,
        stride: int = 1,
        max_frames: int | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        start_frame: int | None = None,
        end_frame: int | None = None,
        strict: bool = False,
        allow_partial: bool = False,
        decoder: str = PYAV,
    ) -> None:
        self._selection = Selection(start, end, start_frame, end_frame, stride, max_frames)
        self.path = self._local(path, allow_partial)
        self._strict = strict
        self._scan = scan(self.path, allow_partial)
        self._check_scan()
        self.fps = float(self._scan.rate / stride)
        self.is_variable = self._scan.is_variable
        self._first = self._first_picture()
        converter = self._converter()
        self.height, self.width = converter.height, converter.width
        self.pixel_aspect = converter.upright_aspect(self._scan.pixel_aspect)
        self._other = None if decoder == PYAV else self._open(decoder, converter(self._first))

    def _local(self, path: str | Path, allow_partial: bool) -> Path:
        """The file; downloaded to a folder that is removed with the reader."""
        if is_http(path):
            downloaded = ExitStack()
            weakref.finalize(self, downloaded.close)
            folder = downloaded.enter_context(temporary_folder())
            return download(str(path), folder, allow_partial)
        if not Path(path).is_file():
            raise InputError(f"video {path}: {_why_no_file(path)}")
        return Path(path)

    def _check_scan(self) -> None:
        """Warn of irregularities, or refuse them if ``strict``; refuse an empty selection."""
        scan = self._scan
        for note in scan.notes:
            self._complain(note)
        if scan.frames and len(self) == 0:
            raise InputError(f"video {self.path}: {self._selection.misses(scan.seconds())}")
        is_whole = len(self) == -(-scan.frames // self._selection.stride)
        if self._strict and is_whole and scan.lost:
            self._complain(f"damaged: {scan.lost} of {scan.frames} frames are missing")

    def _open(self, decoder: str, first: np.ndarray) -> FrameAccess:
        """Another decoder than PyAV, whose first frame must be ``first``."""
        if decoder in DECODERS and not self._scan.is_seekable:
            raise InputError(
                f"video {self.path}: its packets do not determine the number of every frame; "
                f"use --decoder {PYAV}"
            )
        return open_decoder(decoder, self.path, self._scan.frames, first)

    def __len__(self) -> int:
        """Number of selected frames, according to the packets of the file."""
        return len(self._selection.numbers(self._scan.seconds()))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield ``(H, W, 3)`` uint8 RGB frames."""
        for frame in self.frames():
            yield frame.image

    def timed(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield ``(time, frame)`` with increasing times in seconds."""
        for frame in self.frames():
            yield frame.seconds, frame.image

    def frames(self) -> Iterator[Frame]:
        """Yield the frames with their numbers, times and damage flags.

        Times are those of the file. If one is missing or not increasing, it is the previous one
        plus ``1 / rate``.
        """
        return self._frames_of_pyav() if self._other is None else self._frames_of(self._other)

    def _frames_of(self, other: FrameAccess) -> Iterator[Frame]:
        seconds = self._scan.seconds()
        for number, image in read_in_chunks(other, self._selection.numbers(seconds)):
            yield Frame(number, float(seconds[number]), image)

    def _frames_of_pyav(self) -> Iterator[Frame]:
        convert = self._converter()
        damaged: list[int] = []
        yielded = 0
        seconds = self._scan.seconds()
        start = find_start(self.path, self._scan, self._selection.numbers(seconds).start)
        with closing(decode(self.path, self._scan, start)) as pictures:
            places = self._places(pictures, start.number if start else 0)
            places = self._selection.in_range(places, float(seconds[0]) if start else None)
            try:
                for index, place in enumerate(places):
                    if place.is_damaged:
                        damaged.append(place.number)
                        if self._strict:
                            break
                    if index % self._selection.stride:
                        continue
                    image = self._black() if place.picture is None else convert(place.picture)
                    yield Frame(place.number, place.seconds, image, place.is_damaged)
                    yielded += 1
                    if yielded == self._selection.max_frames:
                        break
            finally:
                if damaged:
                    source = f"video {self.path}: damaged"
                    self._warn(DamagedFramesWarning(source, damaged, self._scan.frames, _SHOWN))

    def seconds(self) -> np.ndarray:
        """``(F,)`` times in seconds of all frames of the file, regardless of the selection."""
        return self._scan.seconds()

    def key_frames(self) -> list[int]:
        """Numbers of the frames of the file at which decoding can start, ascending.

        Empty if the packets of the file do not determine the number of every frame.
        """
        if not self._scan.is_seekable:
            return []
        ticks = [key.tick for key in self._scan.key_frames if key.is_ahead]
        return np.searchsorted(self._scan.shown, ticks).tolist()

    def random_access(self) -> RandomAccess:
        """All frames of the file by number, regardless of the selection."""
        return RandomAccess(self.path, self._scan, self._converter())

    def _places(self, pictures: Iterable[Picture], first: int) -> Iterator[_Place]:
        """Number the frames, and fill in missing times and damaged frames."""
        seconds, good = None, None
        step = float(1 / self._scan.rate)
        for number, (claimed, frame) in enumerate(
            ((picture.seconds, picture.frame) for picture in pictures), first
        ):
            if seconds is None:
                seconds = claimed or 0.0
            else:
                seconds = seconds + step if claimed is None or claimed <= seconds else claimed
            good = frame or good
            yield _Place(number, seconds, good, frame is None)

    def _black(self) -> np.ndarray:
        return np.zeros((self.height, self.width, 3), np.uint8)

    def _converter(self) -> RgbConverter:
        return RgbConverter(self._first, f"video {self.path}")

    def _first_picture(self) -> av.VideoFrame:
        with closing(decode(self.path, self._scan)) as pictures:
            for picture in pictures:
                if picture.frame is not None:
                    return picture.frame
        raise InputError(f"video {self.path}: contains no frame that can be decoded")

    def _complain(self, what: str) -> None:
        self._warn(InputWarning(f"video {self.path}: {what}"), stacklevel=5)

    def _warn(self, warning: InputWarning, stacklevel: int = 4) -> None:
        if self._strict:
            raise InputError(f"{warning}; leave out strict (--strict) to accept it")
        warnings.warn(warning, stacklevel=stacklevel)


def _why_no_file(path: str | Path) -> str:
    if Path(path).is_dir():
        return "is a folder, not a video; open_source reads folders of frames"
    if Path(path).exists() or "://" in str(path):
        return "is not a file; cameras, pipes and network streams are read live (track --live)"
    return "no such file"
