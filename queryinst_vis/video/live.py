"""Live sources: cameras, network streams, pipes, and files played in real time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from http.client import HTTPException
from pathlib import Path

import av
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.utils.prefetch import Latest
from queryinst_vis.video.container import NETWORK_FORMATS, file_formats
from queryinst_vis.video.http import PATIENCE, HttpFile, explain, is_http, without_secrets
from queryinst_vis.video.rgb import RgbConverter

# Allowed URL schemes. FFmpeg also has protocols that read other or several sources.
_SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "tcp", "http", "https")
_LONGEST_WAIT = 10.0  # maximum seconds between two frames of a recording
_ENDLESS = ("rtsp", "rtsps", "rtmp")  # an end without an error is a broken connection


class Clock:
    """The clock of live sources and of the latency of their frames, in seconds."""

    def now(self) -> float:
        """The time, from an arbitrary origin."""
        return time.perf_counter()

    def wait_until(self, due: float) -> float:
        """Sleep until a time, unless it has passed, and return the time after that."""
        time.sleep(max(0.0, due - self.now()))
        return self.now()


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True)
class Arrival:
    """A frame that has just arrived.

    Attributes:
        seconds: time of arrival, on the clock of the source.
        picture: as decoded; converted only if needed.
        convert: converter of the source; not thread-safe.
    """

    seconds: float
    picture: av.VideoFrame
    convert: RgbConverter

    def rgb(self) -> np.ndarray:
        """The frame, ``(H, W, 3)`` uint8 RGB, upright, with constant size for the source."""
        return self.convert(self.picture)


class LiveReader:
    """The frames of a live source as they arrive. Can be iterated once.

    Frames that cannot be decoded, such as the first ones of a broadcast joined midway, are
    skipped. If a source fails after its first frame, iteration ends and ``fault`` gives the
    reason. Frames are rotated and HDR is tone-mapped as in ``VideoReader``.

    Args:
        source: a camera (``/dev/video0``), a URL (``rtsp://``, ``http://``, ``udp://``, ...),
            a pipe, or a file. A file, local or at an http URL, is played in real time.
            Nothing else is opened: playlists are rejected.
        clock: sets the pace at which recordings are played.

    Attributes:
        name: a short name of the source, valid as a file name; without the password of a URL.
        fault: why the source ended unexpectedly; None if it did not.
        is_endless: whether it is a network stream without a defined end.
        convert: converter to arrays; None: determined by the first frame.

    Raises:
        InputError: the source cannot be opened or has no video. Iterating raises it if
            the source ends before its first frame.

    Example::

        for arrival in LiveReader("rtsp://192.168.0.9/stream"):
            frame = arrival.rgb()  # (H, W, 3) uint8 RGB
    """

    def __init__(self, source: str | Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.fault: str | None = None
        self.undecodable = 0
        self._clock = clock
        self.convert: RgbConverter | None = None
        self._source = str(source)
        self._http: HttpFile | None = None
        self._scheme = ""
        if "://" in self._source:
            shown = without_secrets(self._source)
            self._scheme, _, place = shown.partition("://")
            self.name = re.sub(r"[^\w.-]+", "_", place).strip("_.") or "stream"
            self._where = f"live source {shown}"
        else:
            self.name = Path(self._source).stem
            self._where = f"live source {source}"
        try:
            # in a thread, because FFmpeg may block while waiting for data, without handling Ctrl-C
            [self._container] = Latest(self._open() for _ in range(1))
        except (av.FFmpegError, OSError, HTTPException, ValueError) as error:
            self._close_connection()
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self._where}: {self._why_not(error)}") from error
        self._stream = self._video_stream()
        self._stored_aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        # slice threading; frame threading would be faster but delays frames
        self._stream.thread_type = "SLICE"
        self.is_endless = bool(self._scheme) and not self._is_recording()

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width / height; of the upright frames once the first has arrived."""
        if self.convert is None:
            return self._stored_aspect
        return self.convert.upright_aspect(self._stored_aspect)

    def _video_stream(self) -> av.VideoStream:
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or self._container.format.name == "tty":
            self.close()
            raise InputError(f"{self._where}: contains no video stream")
        if stream.codec_context is None:
            self.close()
            raise InputError(f"{self._where}: no decoder for its video codec")
        return stream

    def close(self) -> None:
        """Close the source."""
        self._container.close()
        self._close_connection()

    def _close_connection(self) -> None:
        """Close the http connection, which FFmpeg does not do: a camera may allow only one."""
        if self._http is not None:
            self._http.close()

    def __iter__(self) -> Iterator[Arrival]:
        """Yield each frame as soon as it is decoded, or at its time in a recording."""
        start, first = 0.0, None
        is_recording = self._is_recording()
        is_first = True
        with closing(self):
            for picture in self._decode():
                if is_first:
                    self.convert = self.convert or RgbConverter(picture, self._where)
                    now = start = self._clock.now()
                    first = picture.time
                    is_first = False
                elif is_recording and picture.time is not None and first is not None:
                    due = start + picture.time - first
                    start -= max(0.0, due - self._clock.now() - _LONGEST_WAIT)
                    now = self._clock.wait_until(start + picture.time - first)
                else:
                    now = self._clock.now()
                assert self.convert is not None
                yield Arrival(now, picture, self.convert)
        if is_first:
            reason = self.fault or "it ended"
            raise InputError(f"{self._where}: no decodable frame was received ({reason})")

    def _is_recording(self) -> bool:
        """Whether the source is a file, which has to be played in real time."""
        if self._http is None:
            return not self._scheme and Path(self._source).is_file()
        # cameras may announce any length for JPEG streams without timestamps
        is_camera = self._container.format.name in ("mpjpeg", "mjpeg")
        has_end = self._http.length is not None or (self._container.duration or 0) > 0
        return has_end and not is_camera

    def _decode(self) -> Iterator[av.VideoFrame]:
        fault = None
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:  # an empty packet would flush the decoder
                    yield from self._pictures(packet)
        except OSError as error:  # base class of FFmpeg's errors
            fault = _reason(error)
        except av.FFmpegError as error:
            # the end of a multipart JPEG stream is also reported as invalid data
            fault = None if self._container.format.name == "mpjpeg" else _reason(error)
        for picture in self._pictures(None):
            picture.time_base = self._stream.time_base  # PyAV uses that of the packets
            yield picture
        self.fault = (self._http.fault if self._http else "") or fault or self._why_ended()

    def _pictures(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet, or flush the decoder."""
        try:
            return self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            self.undecodable += 1
            return []  # data were lost; recovers at the next key frame

    def _why_ended(self) -> str | None:
        """The fault if FFmpeg reports no error: sources without a defined end failed."""
        if self._scheme in _ENDLESS and not self._container.duration:
            return "the connection ended"
        return None

    def _open(self) -> av.container.InputContainer:
        if not self._scheme:
            return self._open_path(Path(self._source))
        if self._scheme not in _SCHEMES:
            raise InputError(
                f"{self._where}: '{self._scheme}' is not a supported scheme; URLs must "
                f"begin with {', '.join(_SCHEMES)}"
            )
        self._http = HttpFile(self._source) if is_http(self._source) else None
        return av.open(
            self._source if self._http is None else self._http,
            mode="r",
            container_options={"format_whitelist": NETWORK_FORMATS},
            metadata_errors="replace",
            timeout=PATIENCE,
        )

    def _open_path(self, path: Path) -> av.container.InputContainer:
        if not path.exists():
            raise InputError(f"{self._where}: no such file or device")
        if path.is_dir():
            raise InputError(
                f"{self._where}: is a folder; its images can only be read without live"
            )
        if path.is_char_device():
            return av.open(self._source, format="video4linux2")
        # an absolute path: FFmpeg interprets "name:rest" as a protocol
        return av.open(
            str(path.absolute()),
            container_options={"format_whitelist": file_formats()},
            metadata_errors="replace",
        )

    def _why_not(self, error: Exception) -> str:
        """Why the source cannot be opened, and what to do."""
        is_unknown = isinstance(error, av.ArgumentError | av.InvalidDataError)
        if self._scheme and is_unknown and not (self._http and self._http.fault):
            return (
                "is not a video format supported for URLs. Playlists (HLS, DASH) are not "
                "supported, since they refer to other URLs, and neither are single images; pass "
                "the URL of the stream itself, or save it first: ffmpeg -i URL -c copy clip.mkv"
            )
        fault = self._http.fault if self._http else ""
        return f"cannot be opened as a video ({fault or _reason(error)})"


def _reason(error: Exception) -> str:
    """Description of an error; FFmpeg's message for a timeout is misleading."""
    if isinstance(error, av.error.ExitError):
        return f"no data for {PATIENCE:.0f} seconds"
    return explain(error)
