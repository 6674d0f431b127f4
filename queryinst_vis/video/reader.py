"""Reading video files frame by frame, in memory that does not grow with their length."""

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
    A rotation that the file asks for (phones do) is applied.

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
            reason = "is a folder, not a video" if self.path.is_dir() else "no such file"
            raise InputError(f"video {path}: {reason}")
        self._stride = stride
        self._max_frames = max_frames
        self._file_frames, rate = self._scan()
        self.fps = float(rate / stride)
        first = self._first_frame()
        self.height, self.width = first.shape[:2]

    def __len__(self) -> int:
        """Frames that an iteration yields; fewer if some cannot be shown, never more."""
        strided = -(-self._file_frames // self._stride)
        return strided if self._max_frames is None else min(strided, self._max_frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield ``(H, W, 3)`` uint8 RGB frames."""
        for frame in islice(self._decode(), 0, len(self) * self._stride, self._stride):
            yield _upright_rgb(frame, self._stored_size)

    def _scan(self) -> tuple[int, Fraction]:
        """``(frames, frames per second)`` of the file, from its packets."""
        with self._open() as (container, stream):
            packets = displayable = 0
            for packet in container.demux(stream):
                if packet.size == 0 and packet.dts is None:
                    continue  # what PyAV sends to flush a decoder
                packets += 1
                # What precedes the first key frame of a cut broadcast cannot be decoded.
                if not packet.is_discard and (displayable or packet.is_keyframe):
                    displayable += 1
            if packets < stream.frames:
                raise InputError(
                    f"video {self.path}: cut off or damaged: its header promises {stream.frames} "
                    f"frames and the file holds {packets}; copy or download it again"
                )
            rate = stream.average_rate or stream.guessed_rate
            if not rate:
                raise InputError(f"video {self.path}: has no frame rate; convert it to mp4 first")
            return displayable, Fraction(rate)

    def _first_frame(self) -> np.ndarray:
        frame = next(self._decode(), None)
        if frame is None:
            raise InputError(f"video {self.path}: holds no frame that can be decoded")
        self._stored_size = (frame.width, frame.height)
        return _upright_rgb(frame, self._stored_size)

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
        # An absolute path: FFmpeg takes "name:rest" for a protocol.
        try:
            container = av.open(str(self.path.resolve()))
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"video {self.path}: not a video, or cut off ({error.strerror})"
            ) from error
        with container:
            if not container.streams.video:
                raise InputError(f"video {self.path}: holds no picture, only sound or data")
            yield container, container.streams.video[0]


def _upright_rgb(frame: av.VideoFrame, stored_size: tuple[int, int]) -> np.ndarray:
    """The frame as ``(H, W, 3)`` uint8 RGB, turned as its display matrix says.

    ``stored_size`` is the first frame's: some streams change their size on the way.
    """
    pixels = frame.reformat(*stored_size, format="rgb24").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90's
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels
