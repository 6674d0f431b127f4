"""Frames that come at their own pace: cameras, network streams, pipes, and files played back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import av
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.utils.prefetch import Latest
from queryinst_vis.video.rgb import RgbConverter

# What an address may begin with. FFmpeg knows protocols that read several or other sources.
_SCHEMES = ("rtsp", "rtsps", "rtmp", "udp", "tcp", "http", "https")
# What may come from one. Playlists (HLS, DASH, SDP files) are left out: they name addresses that
# the user has not, and FFmpeg would fetch those.
_NETWORK_FORMATS = (
    "rtsp,rtp,mpegts,flv,live_flv,matroska,webm,mov,mp4,ogg,avi,mpjpeg,mjpeg,mpeg,h264,hevc,ivf,nut"
)
_PATIENCE = 10.0  # seconds without a sign of life from a network source


@dataclass(frozen=True)
class Arrival:
    """A frame that has just come.

    Attributes:
        seconds: when, on the clock of ``time.perf_counter``.
        picture: as decoded; what nobody looks at need not be converted.
        convert: of the source; converts one picture at a time.
    """

    seconds: float
    picture: av.VideoFrame
    convert: RgbConverter

    def rgb(self) -> np.ndarray:
        """The frame, ``(H, W, 3)`` uint8 RGB, upright, of one size for the whole source."""
        return self.convert(self.picture)


class LiveReader:
    """The frames of a live source as they come. It cannot be wound back: iterate once.

    Frames that cannot be decoded, as the first ones of a broadcast joined midway, are skipped. A
    source that breaks off after its first frame merely ends; ``fault`` then says why.

    Args:
        source: a camera (``/dev/video0``), an address (``rtsp://``, ``http://``, ``udp://``, ...),
            a pipe, or a file, which is played at its own pace. Nothing but what it names is
            opened: playlists of other addresses are refused.

    Attributes:
        name: a short name of the source that suits a file; without an address's password.
        fault: why the source broke off, None if it did not.

    Raises:
        InputError: the source cannot be opened or holds no pictures. Iterating raises it where
            the source ends before its first frame.

    Example::

        for arrival in LiveReader("rtsp://192.168.0.9/stream"):
            frame = arrival.rgb()  # (H, W, 3) uint8 RGB
    """

    def __init__(self, source: str | Path) -> None:
        self.fault: str | None = None
        self._source = str(source)
        address = _split(self._source) if "://" in self._source else None
        if address is None:
            self.name = Path(self._source).stem
            self._where = f"live source {source}"
        else:
            place = address.netloc.rpartition("@")[2] + address.path  # no password, no token
            self.name = re.sub(r"[^\w.-]+", "_", place).strip("_.") or "stream"
            self._where = f"live source {address.scheme}://{place}"
        self._paced = address is None and Path(self._source).is_file()
        try:
            # In a thread: FFmpeg waits in there for data that may never come, deaf to Ctrl-C.
            [self._container] = Latest(self._open(address) for _ in range(1))
        except av.FFmpegError as error:
            raise InputError(
                f"{self._where}: cannot be opened as a video ({_reason(error)})"
            ) from error
        stream = self._container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or self._container.format.name == "tty":
            self._container.close()
            raise InputError(f"{self._where}: holds no pictures, so it is not a video")
        self._stream = stream
        # Threads that share one picture; a picture each would be faster but as many frames late.
        self._stream.thread_type = "SLICE"

    def __iter__(self) -> Iterator[Arrival]:
        """Yield each frame as soon as it is decoded, or when the file says that it is due."""
        convert: RgbConverter | None = None
        start, first = 0.0, None
        with self._container:
            for picture in self._decode():
                if convert is None:
                    convert = RgbConverter(picture, self._where)
                    now = start = time.perf_counter()
                    first = picture.time
                elif self._paced and picture.time is not None and first is not None:
                    now = _wait_until(start + picture.time - first)
                else:
                    now = time.perf_counter()
                yield Arrival(now, picture, convert)
        if convert is None:
            reason = self.fault or "it ended"
            raise InputError(f"{self._where}: no picture came that can be decoded ({reason})")

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    continue  # a part was lost; the next key frame mends it
                yield from pictures
        except av.FFmpegError as error:
            self.fault = _reason(error)

    def _open(self, address: SplitResult | None) -> av.container.InputContainer:
        if address is None:
            return self._open_path(Path(self._source))
        return self._open_address(address.scheme)

    def _open_path(self, path: Path) -> av.container.InputContainer:
        if not path.exists():
            raise InputError(f"{self._where}: no such file or device")
        if path.is_dir():
            raise InputError(f"{self._where}: is a folder, not a video")
        if path.is_char_device():
            return av.open(self._source, format="video4linux2")
        # An absolute path: FFmpeg takes "name:rest" for a protocol.
        return av.open(str(path.absolute()))

    def _open_address(self, scheme: str) -> av.container.InputContainer:
        if scheme not in _SCHEMES:
            raise InputError(
                f"{self._where}: '{scheme}' is no address that can be opened; those that can "
                f"begin with {', '.join(_SCHEMES)}"
            )
        options = {"format_whitelist": _NETWORK_FORMATS}
        return av.open(self._source, container_options=options, timeout=_PATIENCE)


def _wait_until(due: float) -> float:
    """Sleep until then, if that is still to come; return the time that it is."""
    time.sleep(max(0.0, due - time.perf_counter()))
    return time.perf_counter()


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise InputError(f"live source: not an address ({error})") from error


def _reason(error: av.FFmpegError) -> str:
    """What went wrong, in words; FFmpeg's own for "nothing came" speak of an exit."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {_PATIENCE:.0f} seconds"
    return error.strerror or str(error)
