"""Copying the audio of a video file to the annotated video."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video.container import open_video

_COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "alac")
"""Codecs that players support in mp4; others are re-encoded."""

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_READ_ERRORS = (av.FFmpegError, ValueError)


class SourceAudio:
    """Reads the audio of a video file packet by packet, in parallel with the written frames.

    Codecs supported in mp4 are copied, others are encoded as AAC (at most stereo). Audio is
    cut to the frames with packet accuracy (about 20 ms) and stays in sync.

    Damaged audio ends at the damage, with a warning: it never stops the video.

    Args:
        path: a video file.

    Attributes:
        start: time in the file at which the written video starts, in seconds; must be set before
            the first frame is written.

    Raises:
        InputError: not a video.

    Example::

        audio = SourceAudio("street.mp4")
        audio.start = 12.0  # seconds, of the first frame that is written
        with VideoWriter("out.mp4", 25, audio=audio) as writer:
            writer.write(frame)
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.start: float | None = None
        self._opened = ExitStack()
        self._container, _ = self._opened.enter_context(open_video(self._path))
        found = self._container.streams.best("audio")
        self._stream = found if isinstance(found, av.AudioStream) else None
        self._is_copied = (
            self._stream is not None and not self.is_silent and _fits_mp4(self._stream)
        )
        self._encoder: av.AudioStream | None = None
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None

    @property
    def is_silent(self) -> bool:
        """Whether there is no readable audio track."""
        return self._stream is None or self._stream.codec_context is None

    def add_to(self, container: av.container.OutputContainer) -> None:
        """Add an audio stream to an mp4, unless the file is silent."""
        if self._stream is None or self.is_silent or self.start is None:
            return
        if self._is_copied:
            self._encoder = container.add_stream_from_template(self._stream)
            self._packets = self._copies()
        else:
            rate = self._stream.rate if self._stream.rate in _AAC_RATES else 48000
            encoder = container.add_stream("aac", rate=rate)
            encoder.layout = "mono" if self._stream.channels == 1 else "stereo"
            self._encoder = encoder
            self._packets = self._encoded()

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """The next packets that start before this time of the written video."""
        while True:
            if self._next is None:
                self._next = self._read()
            if self._next is None or _time_of(self._next) >= seconds:
                return
            packet, self._next = self._next, None
            yield packet

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def _read(self) -> av.Packet | None:
        try:
            return next(self._packets, None)
        except _READ_ERRORS as error:
            warnings.warn(
                f"video {self._path}: its audio cannot be read to the end ({error}); the rest of "
                "the annotated video is silent",
                InputWarning,
                stacklevel=2,
            )
            return None

    def _seek(self) -> float:
        """Seek to the first frame and return its time."""
        assert self.start is not None
        if self.start > 1:
            self._container.seek(int((self.start - 1) * av.time_base))
        return self.start

    def _copies(self) -> Iterator[av.Packet]:
        start, encoder, last = self._seek(), self._encoder, None
        assert encoder is not None
        for packet in self._container.demux(self._stream):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            offset = round(start / packet.time_base)
            if packet.pts < offset or (last is not None and packet.dts <= last):
                continue  # decreasing timestamps would be rejected
            last = packet.dts
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = encoder
            yield packet

    def _encoded(self) -> Iterator[av.Packet]:
        start, encoder, last = self._seek(), self._encoder, None
        assert encoder is not None
        context = encoder.codec_context
        context.open()
        resampler = av.AudioResampler("fltp", context.layout, context.rate, context.frame_size)
        for frame in self._container.decode(self._stream):
            assert isinstance(frame, av.AudioFrame)
            if frame.time is None or frame.time < start or (last is not None and frame.time < last):
                continue
            last = frame.time
            assert frame.time_base is not None and frame.pts is not None
            frame.pts -= round(start / frame.time_base)
            for piece in resampler.resample(frame):
                yield from encoder.encode(piece)
        for piece in resampler.resample(None):
            yield from encoder.encode(piece)
        yield from encoder.encode(None)


def open_audio(path: Path | None) -> SourceAudio | None:
    """The audio of a source's file; None without a file or audio."""
    if path is None:
        return None
    try:
        audio = SourceAudio(path)
    except InputError:  # e.g. a pipe that has been read already
        return None
    if audio.is_silent:
        audio.close()
        return None
    return audio


def _time_of(packet: av.Packet) -> float:
    base = packet.time_base or Fraction(1)
    return float((packet.pts if packet.pts is not None else packet.dts or 0) * base)


def _fits_mp4(stream: av.AudioStream) -> bool:
    """Whether the stream's packets can be copied to an mp4."""
    if stream.codec_context.codec.canonical_name not in _COPIED:
        return False
    try:
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except _READ_ERRORS:
        return False
    return True
