"""Opening a video, and what its container says about its frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path

import av

from queryinst_vis.errors import InputError

# What may come from an address. Playlists (HLS, DASH, SDP) are left out: they name addresses that
# the user has not, and FFmpeg would fetch those.
NETWORK_FORMATS = (
    "rtsp,rtp,mpegts,flv,live_flv,matroska,webm,mov,mp4,ogg,avi,mpjpeg,mjpeg,mpeg,h264,hevc,ivf,nut"
)
_PLAYLISTS = {"hls", "dash", "concat", "sdp", "rtsp", "rtp", "sap", "imf", "webm_dash_manifest"}


@cache
def _file_formats() -> str:
    """All formats but those that name other files or addresses, which FFmpeg would open."""
    return ",".join(sorted(av.formats_available - _PLAYLISTS))


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video file: ``(container, its best video stream)``.

    Raises:
        InputError: not a video, or a playlist of other files. FFmpeg's errors inside the block are
            reported in the same way.
    """
    try:
        # An absolute path, because FFmpeg takes "name:rest" for a protocol. Titles in files need
        # not be UTF-8.
        with av.open(
            str(path.resolve()),
            metadata_errors="replace",
            container_options={"format_whitelist": _file_formats()},
        ) as container:
            stream = container.streams.best("video")
            # FFmpeg renders text files onto a screen of its own, a "tty".
            if not isinstance(stream, av.VideoStream) or container.format.name == "tty":
                raise InputError(f"video {path}: holds no pictures, so it is not a video")
            if stream.codec_context is None:
                raise InputError(
                    f"video {path}: no decoder for its pictures; convert it with ffmpeg on a "
                    "machine that has one"
                )
            yield container, stream
    except av.ArgumentError as error:  # above all what is not on the list of formats
        raise InputError(
            f"video {path}: not readable as a video. Playlists, which name other files or "
            "addresses, are not followed; save what they name first: ffmpeg -i PLAYLIST -c copy "
            "clip.mkv"
        ) from error
    except av.FFmpegError as error:
        raise InputError(
            f"video {path}: not readable as a video ({reason(error)}); if it is one, "
            "copy or download it again"
        ) from error


def reason(error: av.FFmpegError) -> str:
    """What went wrong, in FFmpeg's words."""
    return error.strerror or type(error).__name__


def promised_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """The number of frames that the file's header promises; 0 where it promises none.

    The count in the header of a trimmed MP4 includes the frames that the trim left out; its index
    has only those that remain. Other containers' counts mean other things (ticks in IVF).
    """
    if "mp4" in container.format.name:
        return len(stream.index_entries)
    return stream.frames if container.format.name == "avi" else 0


def ends_early(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether an MP4, MOV or AVI file lacks bytes that its index or header counts on."""
    size = path.stat().st_size
    if "mp4" in container.format.name:
        return any(entry.pos + entry.size > size for entry in stream.index_entries)
    return container.format.name == "avi" and _riff_end(path) > size


def is_fragmented(path: Path) -> bool:
    """Whether an MP4 or MOV file is written in fragments, each with its own index."""
    return any(kind == b"moof" for kind in _boxes(path))


def _boxes(path: Path) -> Iterator[bytes]:
    """The types of an MP4's outer boxes (ISO 14496-12, 4.2)."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while len(header := file.read(16)) >= 8:
            yield header[4:8]
            size = int.from_bytes(header[:4], "big")
            if size == 1:
                size = int.from_bytes(header[8:], "big")
            at = file.tell() - len(header) + size
            if size < 8 or at >= end:
                return
            file.seek(at)


def _riff_end(path: Path) -> int:
    """Where the last RIFF chunk of an AVI should end; long files have several (OpenDML)."""
    end = 0
    with path.open("rb") as file:
        while True:
            file.seek(end)
            header = file.read(8)
            if header[:4] != b"RIFF" or len(header) < 8:
                return end
            size = int.from_bytes(header[4:], "little")
            if size in (0, 2**32 - 1):  # never filled in: the recorder was stopped
                return file.seek(0, os.SEEK_END)
            end += 8 + size + size % 2


def time_base_of(stream: av.VideoStream) -> Fraction:
    """Seconds of a tick of the stream's clock."""
    return stream.time_base or Fraction(1, av.time_base)
