"""Writing H.264 videos in mp4 files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.video.reformatter import Colorspace

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.video.audio import SourceAudio
from queryinst_vis.video.encoders import AUTO, ENCODERS, X264, find_encoder, set_up

_CLOCK = 90_000  # ticks per second for frames with individual times
_USUAL_RATE = 30  # frame rate for x264 if frames have individual times


class VideoWriter:
    """Encodes frames to an H.264 mp4 with constant memory.

    The file is written atomically: it appears when the block succeeds. H.264 requires even sides;
    the last row or column of frames with odd sides is repeated.

    By default, frames with individual times are written as a fragmented mp4, which can be endless:
    it needs no index of all frames in memory (about 100 bytes per frame otherwise).

    Args:
        path: the mp4 to write; missing folders are created.
        fps: frames per second; None: every frame is written with its time.
        crf: constant quality on x264's scale; lower is better, 18 is visually lossless.
        pixel_aspect: pixel aspect ratio, width / height; may be set until the first frame.
        is_endless: write fragments; None: only without ``fps``.
        audio: audio of the frames, closed together with the video; None: a silent video.
        encoder: a key of ``ENCODERS``, or ``"auto"``: the first that encodes this frame size.

    Raises:
        InputError: the encoder does not work on this machine, the file cannot be written, or no
            frame was written.

    Example::

        with VideoWriter("out.mp4", fps=reader.fps) as writer:
            for frame in reader:
                writer.write(frame)
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | Fraction | None,
        crf: int = 20,
        *,
        pixel_aspect: Fraction = Fraction(1),
        is_endless: bool | None = None,
        audio: SourceAudio | None = None,
        encoder: str = X264,
    ) -> None:
        self.path = Path(path)
        # rates such as 29.97 must be fractions (30000/1001) to stay in sync with the audio
        self._rate = None if fps is None else Fraction(fps).limit_denominator(65535)
        self._crf = crf
        self._encoder = encoder
        self.pixel_aspect = pixel_aspect
        self._is_endless = fps is None if is_endless is None else is_endless
        self._audio = audio
        self._stream: av.VideoStream | None = None
        self._size: tuple[int, int] = (0, 0)  # (width, height)
        self._next_tick = 0  # in units of 1 / fps, or of the clock without fps

    def __enter__(self) -> VideoWriter:
        with ExitStack() as files:
            if self._audio is not None:
                files.callback(self._audio.close)
            temporary = files.enter_context(atomic_path(self.path))
            endless = "frag_keyframe+empty_moov+default_base_moof"
            kind = endless if self._is_endless else "faststart"
            self._container = files.enter_context(
                av.open(str(temporary), "w", format="mp4", options={"movflags": kind})
            )
            self._files = files.pop_all()
        return self

    @staticmethod
    def convert(frame: np.ndarray) -> av.VideoFrame:
        """Convert a frame for the encoder; may be called from any thread before ``write``.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB; copied.

        Returns:
            The frame in YUV 4:2:0 (BT.709), padded to even sides.

        Raises:
            ValueError: not ``(H, W, 3)`` uint8.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) uint8 RGB, got {frame.shape} {frame.dtype}")
        shared = av.VideoFrame.from_numpy_buffer(_pad_to_even(frame), format="rgb24")
        return shared.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)

    def write(self, frame: np.ndarray | av.VideoFrame, seconds: float | None = None) -> None:
        """Append one frame.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB, or the result of ``convert``; always of the same size.
            seconds: presentation time, increasing from the start of the video. Required without
                ``fps``, otherwise not allowed.

        Raises:
            InputError: the file cannot be written, e.g. because the disk is full.
            ValueError: an invalid frame, or a missing or unexpected time.
        """
        if (seconds is None) != (self._rate is not None):
            raise ValueError("frames need times if, and only if, the video has no fps")
        picture = frame if isinstance(frame, av.VideoFrame) else self.convert(frame)
        size = picture.width, picture.height
        if self._stream is None:
            self._size = size
            self._stream = self._add_stream(*size)
            if self._audio is not None:
                self._audio.add_to(self._container)
        if size != self._size:
            raise ValueError("frame of {}x{} pixels in a video of {}x{}".format(*size, *self._size))
        tick = self._next_tick
        if seconds is not None:
            tick = max(tick, round(seconds * _CLOCK))
        picture.pts, picture.time_base = tick, self._tick_length()
        self._next_tick = tick + 1
        self._encode(self._stream, picture)
        self._add_audio(tick)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            with suppress(av.FFmpegError):  # closing a broken file may fail again
                self._files.__exit__(kind, error, traceback)
            return
        with self._files:  # publishes the file, or removes it after an error
            self._finish()

    def _add_stream(self, width: int, height: int) -> av.VideoStream:
        encoder = self._encoder
        if encoder == AUTO:
            encoder = find_encoder(AUTO, (width, height))
        options = ENCODERS[encoder].options(self._crf)
        if self._rate is None:
            # no B-frames: fragments do not support reordering, and with variable times an index
            # would give too short a duration
            options["bf"] = "0"
        rate = self._rate or _USUAL_RATE
        stream = cast(
            av.VideoStream, self._container.add_stream(encoder, rate=rate, options=options)
        )
        set_up(stream.codec_context, encoder, (width, height))
        stream.codec_context.time_base = self._tick_length()
        stream.codec_context.sample_aspect_ratio = self.pixel_aspect
        return stream

    def _tick_length(self) -> Fraction:
        return 1 / self._rate if self._rate else Fraction(1, _CLOCK)

    def _encode(self, stream: av.VideoStream, picture: av.VideoFrame | None) -> None:
        """Encode a frame; None: flush the encoder."""
        with self._as_input_error():
            for packet in stream.encode(picture):
                self._container.mux(packet)

    def _add_audio(self, tick: int) -> None:
        """Write the audio before a tick of the clock."""
        if self._audio is None:
            return
        with self._as_input_error():
            for packet in self._audio.until(float(tick * self._tick_length())):
                self._container.mux(packet)

    @contextmanager
    def _as_input_error(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error

    def _finish(self) -> None:
        if self._stream is None:
            raise InputError(f"cannot write {self.path}: it has no frames")
        self._add_audio(self._next_tick if self._rate else self._next_tick + _CLOCK // _USUAL_RATE)
        self._encode(self._stream, None)
        with self._as_input_error():
            self._container.close()


def _pad_to_even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)
