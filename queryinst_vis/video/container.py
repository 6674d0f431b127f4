"""Opening a video, and reading metadata of its container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path

import av

from queryinst_vis.errors import InputError

# Formats allowed from URLs. Playlists (HLS, DASH, SDP) are excluded: FFmpeg would open the
# addresses in them, which were not given by the user.
NETWORK_FORMATS = (
    "rtsp,rtp,mpegts,flv,live_flv,matroska,webm,mov,mp4,ogg,avi,mpjpeg,mjpeg,mpeg,h264,hevc,ivf,nut"
)
_MOST_BOXES = 1_000_000  # limit of parsed boxes: enough for a week of fragments
_PLAYLISTS = {"hls", "dash", "concat", "sdp", "rtsp", "rtp", "sap", "imf", "webm_dash_manifest"}


@cache
def file_formats() -> str:
    """All formats except those that refer to other files or addresses, which FFmpeg would open."""
    return ",".join(sorted(av.formats_available - _PLAYLISTS))


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file: ``(container, its best video stream)``.

    Raises:
        InputError: not a video, or a playlist of other files.
    """
    # Older versions of torchvision have FFmpeg's messages passed to Python. A decoding thread with
    # a message waits for the GIL, which is held while freeing the decoder waits for that thread.
    av.logging.set_level(None)
    with ExitStack() as opened:
        container = opened.enter_context(_open(path, opened))
        stream = container.streams.best("video")
        # FFmpeg renders text files as a video ("tty")
        if not isinstance(stream, av.VideoStream) or container.format.name == "tty":
            raise InputError(f"video {path}: contains no video stream")
        if stream.codec_context is None:
            raise InputError(
                f"video {path}: no decoder for its video codec; convert it with ffmpeg"
            )
        yield container, stream


def _open(path: Path, opened: ExitStack) -> av.container.InputContainer:
    # metadata need not be UTF-8
    options = {"format_whitelist": file_formats()}
    try:
        try:
            # an absolute path, because FFmpeg interprets "name:rest" as a protocol
            return av.open(
                str(path.resolve()), "r", metadata_errors="replace", container_options=options
            )
        except (av.EOFError, av.InvalidDataError):
            end = _end_of_whole_boxes(path)
            if not is_fragmented(path) or end == path.stat().st_size:
                raise
            # FFmpeg rejects an MP4 that ends within the header of a fragment: leave that out
            beginning = opened.enter_context(closing(_Beginning(path, end)))
            return av.open(beginning, "r", metadata_errors="replace", container_options=options)
    except av.ArgumentError as error:  # mainly formats that are not allowed
        raise InputError(
            f"video {path}: not readable as a video. Playlists, which refer to other files or "
            "addresses, are not supported; save the video first: ffmpeg -i PLAYLIST -c copy "
            "clip.mkv"
        ) from error
    except av.FFmpegError as error:
        raise InputError(
            f"video {path}: not readable as a video ({reason(error)}); if it is one, "
            "copy or download it again"
        ) from error


class _Beginning:
    """The first ``end`` bytes of a file."""

    def __init__(self, path: Path, end: int) -> None:
        self._file = path.open("rb")
        self._end = end

    def close(self) -> None:
        self._file.close()

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        return self._file.read(max(0, min(size, self._end - self.tell())))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self._end + offset, os.SEEK_SET
        return self._file.seek(offset, whence)


def reason(error: av.FFmpegError) -> str:
    """FFmpeg's error message."""
    return error.strerror or type(error).__name__


def promised_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """The number of frames given in the header; 0 if there is none.

    The count of a trimmed MP4 includes the hidden frames; its index has only the visible ones.
    Counts of other containers have other meanings (ticks in IVF).
    """
    if "mp4" in container.format.name:
        return len(stream.index_entries)
    return stream.frames if container.format.name == "avi" else 0


def ends_early(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether an MP4, MOV, AVI or Matroska file is shorter than its headers say."""
    size = path.stat().st_size
    if "mp4" in container.format.name:
        if is_fragmented(path):
            return _end_of_whole_boxes(path) < size
        return any(entry.pos + entry.size > size for entry in stream.index_entries)
    if "matroska" in container.format.name:
        return _matroska_end(path) > size
    return container.format.name == "avi" and _riff_end(path) > size


def is_fragmented(path: Path) -> bool:
    """Whether an MP4 or MOV file is written in fragments, each with its own index."""
    return any(kind == b"moof" for kind, _, _ in _boxes(path))


def _end_of_whole_boxes(path: Path) -> int:
    """End of the last complete box of an MP4."""
    size = path.stat().st_size
    return max((end for _, _, end in _boxes(path) if end <= size), default=0)


def _boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """``(type, start, end)`` of the top-level boxes of an MP4 (ISO 14496-12, 4.2)."""
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(_MOST_BOXES):
            if len(header := file.read(16)) < 8:
                return
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:], "big")
            end = start + length if length else size
            yield header[4:8], start, end
            if end < start + 8 or end >= size:
                return
            start = file.seek(end)


def _matroska_end(path: Path) -> int:
    """Expected end of a Matroska file; 0 if unknown (RFC 8794, 4 to 7)."""
    end = 0
    with path.open("rb") as file:
        for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML header, segment
            file.seek(end)
            if file.read(4) != identifier:
                return 0
            first = file.read(1)
            length = 9 - first[0].bit_length() if first and first[0] else 0  # bytes of the size
            data = first + file.read(length - 1) if length else b""
            size = int.from_bytes(data, "big") & ((1 << 7 * length) - 1)
            if len(data) < max(length, 1) or size == (1 << 7 * length) - 1:
                return 0  # not filled in, as during recording
            end = file.tell() + size
    return end


def _riff_end(path: Path) -> int:
    """Expected end of the last RIFF chunk of an AVI; long files have several (OpenDML)."""
    end = 0
    with path.open("rb") as file:
        while True:
            file.seek(end)
            header = file.read(8)
            if header[:4] != b"RIFF" or len(header) < 8:
                return end
            size = int.from_bytes(header[4:], "little")
            if size in (0, 2**32 - 1):  # not filled in: the recorder was stopped
                return file.seek(0, os.SEEK_END)
            end += 8 + size + size % 2


def time_base_of(stream: av.VideoStream) -> Fraction:
    """Seconds per tick of the stream's clock."""
    return stream.time_base or Fraction(1, av.time_base)
