"""Reading video files frame by frame, in memory that does not grow with their length.

PyAV decodes, not decord: a tracker is slower than a decoder, and decord then decodes ahead
without limit, 4.2 GB within 180 frames of 1280x720 where PyAV takes 20 MB. It also returns
wrong frames or none from MPEG-TS. docs/dependencies.md has the measurements.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video.decode import decode
from queryinst_vis.video.http import download, is_http
from queryinst_vis.video.rgb import RgbConverter
from queryinst_vis.video.scan import scan

FOLDER = (
    "is a folder, not a video; make one of its pictures: "
    "ffmpeg -framerate 25 -pattern_type glob -i 'FOLDER/*.jpg' -crf 10 clip.mp4"
)
"""What is said of a folder."""

_NAMED = 10  # runs of frame numbers in a warning; more are only counted


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: among the frames that a player shows, from 0.
        seconds: when it is shown; rises from frame to frame. None: unknown; a file's never is.
        image: ``(H, W, 3)`` uint8 RGB, upright.
        is_damaged: it could not be decoded; ``image`` is that of the last good frame, or black.
    """

    number: int
    seconds: float | None
    image: np.ndarray
    is_damaged: bool = False


class VideoReader:
    """The frames of a video file, in order; each iteration starts at the first one again.

    Opening reads the whole file once without decoding it, which tells the number of frames, and
    that a download broke off, before hours of work have gone into the rest. (MP4, MOV and AVI
    say what belongs to them; Matroska that was cut off is read with a warning, and MPEG-TS
    merely reads as a shorter file.)

    Every frame keeps its place. One that cannot be decoded shows the last good picture (black at
    first), and an ``InputWarning`` at the end of the iteration gives the numbers of these frames.
    Frames that an edit list hides are not read. Pictures are turned or mirrored as the file asks
    for, and HDR is tone-mapped.

    Args:
        path: anything that FFmpeg reads, but for playlists of other files; or the http address of a
            recording, which is downloaded to a temporary folder.
        stride: yield every that many frames, beginning with the first.
        max_frames: yield at most this many; None: all.
        strict: raise an error at a damaged frame, or where the file is not as it promises.
        allow_partial: accept an MP4, MOV or AVI file whose end is missing.

    Attributes:
        path: the file; the temporary one of a recording behind an address.
        fps: frames that are yielded per second of the video, so ``stride`` lowers it; the
            average where the rate varies.
        is_variable: whether the times of the frames stray from that rate by more than half a
            frame.
        height, width: of the upright frames, in pixels.
        pixel_aspect: width of an upright pixel by its height.

    Raises:
        InputError: no such file, not a video, cut off, or no frame that can be decoded;
            ``stride`` or ``max_frames`` below 1. Iterating raises it for pixel formats that
            cannot be converted, and with ``strict``.

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
        strict: bool = False,
        allow_partial: bool = False,
    ) -> None:
        self.path = Path(path)
        if stride < 1:
            raise InputError(f"video {path}: stride must be 1 or more, got {stride}")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"video {path}: max_frames must be 1 or more, got {max_frames}")
        if is_http(path):
            self._folder = TemporaryDirectory(prefix="queryinst-vis-")  # goes with the reader
            self.path = download(str(path), Path(self._folder.name), allow_partial)
        elif not self.path.is_file():
            raise InputError(f"video {path}: {_why_no_file(path)}")
        self._stride = stride
        self._max_frames = max_frames
        self._strict = strict
        self._scan = scan(self.path, allow_partial)
        for note in self._scan.notes:
            self._complain(note)
        self.fps = float(self._scan.rate / stride)
        self.is_variable = self._scan.is_variable
        self._first = self._first_picture()
        converter = self._converter()
        self.height, self.width = converter.height, converter.width
        self.pixel_aspect = converter.upright_aspect(self._scan.pixel_aspect)

    def __len__(self) -> int:
        """Frames that an iteration yields according to the file's packets."""
        strided = -(-self._scan.frames // self._stride)
        return strided if self._max_frames is None else min(strided, self._max_frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield ``(H, W, 3)`` uint8 RGB frames."""
        for frame in self.frames():
            yield frame.image

    def timed(self) -> Iterator[tuple[float | None, np.ndarray]]:
        """Yield each frame with its time in seconds: ``(time, frame)``, in rising time."""
        for frame in self.frames():
            yield frame.seconds, frame.image

    def frames(self) -> Iterator[Frame]:
        """Yield the frames with their numbers, their times, and whether they are damaged.

        Times are the file's own. Where it gives none, or one that is not later than the last, a
        frame is taken to come ``1 / fps`` after the one before.
        """
        convert = self._converter()
        damaged: list[int] = []
        yielded, seconds = 0, None
        good: av.VideoFrame | None = None
        with closing(decode(self.path, self._scan)) as pictures:
            try:
                for index, picture in enumerate(pictures):
                    if picture.frame is None:
                        damaged.append(index)
                        if self._strict:
                            break
                    else:
                        good = picture.frame
                    if index % self._stride:
                        continue
                    seconds = self._time_after(seconds, picture.seconds)
                    image = self._black() if good is None else convert(good)
                    yield Frame(index, seconds, image, picture.frame is None)
                    yielded += 1
                    if yielded == self._max_frames:
                        break
            finally:
                if damaged:
                    self._complain(_tell(damaged, self._scan.frames))

    def _time_after(self, last: float | None, claimed: float | None) -> float:
        if last is None:
            return 0.0 if claimed is None else claimed
        return last + 1 / self.fps if claimed is None or claimed <= last else claimed

    def _black(self) -> np.ndarray:
        return np.zeros((self.height, self.width, 3), np.uint8)

    def _converter(self) -> RgbConverter:
        return RgbConverter(self._first, f"video {self.path}")

    def _first_picture(self) -> av.VideoFrame:
        with closing(decode(self.path, self._scan)) as pictures:
            for picture in pictures:
                if picture.frame is not None:
                    return picture.frame
        raise InputError(f"video {self.path}: holds no frame that can be decoded")

    def _complain(self, what: str) -> None:
        if self._strict:
            raise InputError(f"video {self.path}: {what}; leave out strict (--strict) to go on")
        warnings.warn(f"video {self.path}: {what}", InputWarning, stacklevel=3)


def _tell(damaged: list[int], frames: int) -> str:
    """What is said of frames that cannot be decoded."""
    runs = _runs(damaged)
    named = ", ".join(runs[:_NAMED]) + (" and others" if len(runs) > _NAMED else "")
    noun = "frame" if len(damaged) == 1 else "frames"
    return (
        f"damaged: {noun} {named} ({len(damaged)} of {frames}) cannot be decoded; the last good "
        "picture is shown there, and nothing is found in it"
    )


def _runs(numbers: list[int]) -> list[str]:
    """Ascending numbers as text, such as ``["3", "5-8"]``."""
    runs = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}")
    return runs


def _why_no_file(path: str | Path) -> str:
    if Path(path).is_dir():
        return FOLDER
    if Path(path).exists() or "://" in str(path):
        return "is not a file; cameras, pipes and network streams are read live (track --live)"
    return "no such file"
