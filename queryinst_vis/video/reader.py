"""Reading video files frame by frame, in memory that does not grow with their length.

PyAV decodes, not decord: a tracker is slower than a decoder, and decord then decodes ahead
without limit, 4.2 GB within 180 frames of 1280x720 where PyAV takes 20 MB. It also returns
wrong frames or none from MPEG-TS. docs/dependencies.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

from queryinst_vis.errors import InputError


class VideoReader:
    """The frames of a video file, in order; each iteration starts at the first one again.

    Opening reads the whole file once without decoding it: that is what tells the exact number
    of frames, and that a download broke off, before hours of work have gone into the rest.
    (MP4, MOV and AVI say how many frames belong to them; a Matroska or MPEG-TS file that was
    cut off merely reads as a shorter one.) A rotation that the file asks for, as phones' files
    do, is applied.

    Args:
        path: anything that FFmpeg reads.
        stride: yield every that many frames, beginning with the first.
        max_frames: yield at most this many; None: all.

    Attributes:
        path: the file.
        fps: frames that are yielded per second of the video, so ``stride`` lowers it; the
            average where the rate varies.
        height, width: of the upright frames, in pixels.

    Raises:
        InputError: no such file, not a video, cut off, or no frame that can be decoded;
            ``stride`` or ``max_frames`` below 1. Iterating raises it where the file turns out
            to be damaged further in.

    Example::

        reader = VideoReader("street.mp4", stride=5)
        for frame in reader:  # (H, W, 3) uint8 RGB
            ...
    """

    def __init__(self, path: str | Path, stride: int = 1, max_frames: int | None = None) -> None:
        self.path = Path(path)
        if stride < 1:
            raise InputError(f"video {path}: stride must be 1 or more, got {stride}")
        if max_frames is not None and max_frames < 1:
            raise InputError(f"video {path}: max_frames must be 1 or more, got {max_frames}")
        if not self.path.is_file():
            raise InputError(f"video {path}: {_why_no_file(path)}")
        self._stride = stride
        self._max_frames = max_frames
        self._file_frames, rate = self._scan()
        self.fps = float(rate / stride)
        first = next(self._decode(), None) if self._file_frames else None
        if first is None:
            raise InputError(f"video {path}: holds no frame that can be decoded")
        self._stored_size = (first.width, first.height)
        self.height, self.width = upright_rgb(first, self._stored_size).shape[:2]

    def __len__(self) -> int:
        """Frames that an iteration yields; fewer if some cannot be shown, never more."""
        strided = -(-self._file_frames // self._stride)
        return strided if self._max_frames is None else min(strided, self._max_frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield ``(H, W, 3)`` uint8 RGB frames."""
        for _, frame in self.timed():
            yield frame

    def timed(self) -> Iterator[tuple[float, np.ndarray]]:
        """Yield each frame with its time in seconds: ``(time, frame)``, in rising time.

        Times are the file's own. Where it gives none, or one that is not later than the last, a
        frame is taken to come ``1 / fps`` after the one before.
        """
        last: float | None = None
        for frame in islice(self._decode(), 0, len(self) * self._stride, self._stride):
            time = frame.time
            if last is None:
                time = 0.0 if time is None else time
            elif time is None or time <= last:
                time = last + 1 / self.fps
            last = time
            yield time, upright_rgb(frame, self._stored_size)

    def _scan(self) -> tuple[int, Fraction]:
        """``(frames, frames per second)`` of the file, from its packets."""
        with self._open() as (container, stream):
            promised = _promised_frames(container, stream)
            packets = displayable = 0
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None:
                    continue  # what PyAV sends to flush a decoder
                packets += 1
                # What precedes the first key frame of a cut broadcast cannot be decoded.
                if not packet.is_discard and (displayable or packet.is_keyframe):
                    displayable += 1
            if packets < promised:
                raise InputError(
                    f"video {self.path}: cut off or damaged: its header promises {promised} "
                    f"frames and the file holds {packets}; copy or download it again"
                )
            # FFmpeg, too, takes a stream that says nothing of its rate for 25 frames a second.
            return displayable, Fraction(stream.average_rate or stream.guessed_rate or 25)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All frames as stored, decoded on several threads but only a few of them ahead."""
        with self._open() as (container, stream):
            stream.thread_type = "AUTO"
            number = 0
            try:
                for number, frame in enumerate(container.decode(stream), start=1):  # noqa: B007
                    yield frame
            except av.FFmpegError as error:
                raise InputError(
                    f"video {self.path}: damaged after frame {number} of {self._file_frames} "
                    f"({error.strerror}); copy or download it again, or repair it with ffmpeg"
                ) from error

    @contextmanager
    def _open(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        try:
            # An absolute path: FFmpeg takes "name:rest" for a protocol.
            with av.open(str(self.path.resolve())) as container:
                stream = container.streams.best("video")
                # FFmpeg types out text files on a screen of its own, a "tty".
                if stream is None or container.format.name == "tty":
                    raise InputError(f"video {self.path}: holds no pictures, so it is not a video")
                yield container, stream
        except av.FFmpegError as error:
            raise InputError(
                f"video {self.path}: not readable as a video ({error.strerror}); if it is one, "
                "copy or download it again"
            ) from error


def _why_no_file(path: str | Path) -> str:
    if Path(path).is_dir():
        return "is a folder, not a video"
    if Path(path).exists() or "://" in str(path):
        return "is not a file; cameras, pipes and network streams are read live (track --live)"
    return "no such file"


def _promised_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Frames that should follow according to the file's head; 0 where it does not say.

    The count in the head of a trimmed MP4 still has the frames that the trim left out; its
    index has only those that remain.
    """
    return len(stream.index_entries) if "mp4" in container.format.name else stream.frames


def upright_rgb(frame: av.VideoFrame, stored_size: tuple[int, int]) -> np.ndarray:
    """The frame as ``(H, W, 3)`` uint8 RGB, turned as its display matrix says.

    ``stored_size`` is the first frame's: some streams change their size on the way.
    """
    pixels = frame.reformat(*stored_size, format="rgb24").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90's
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels
