"""Finding the position at which decoding can start with results identical to sequential reading.

Decoding can start in the middle of a file if the packets determine the number of every frame, and
at a key frame that resets the decoder. If either is uncertain, decoding starts at the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from queryinst_vis.video.container import open_video
from queryinst_vis.video.packets import Decoder, NotThereError, number_of
from queryinst_vis.video.scan import KeyFrame, Scan, is_shown

_TRIES = 4  # key frames to try before decoding from the first frame
_EARLIER = 2  # start this many key frames earlier at an open GOP
_DELAY = 64  # packets after which a missing frame is not expected any more
_CLOSED_H264 = {5}  # IDR (H.264, table 7-1)
_CLOSED_HEVC = {19, 20}  # IDR (H.265, table 7-1)
_ALWAYS_CLOSED = {"mjpeg", "prores", "dnxhd", "ffv1", "rawvideo", "huffyuv", "vp8", "vp9", "av1"}
"""Codecs whose key frames reset the decoder. In other codecs, frames after a key frame may refer to
earlier ones."""


@dataclass(frozen=True)
class Start:
    """Where decoding starts.

    Attributes:
        key: the first packet to decode.
        tick: presentation time of the first frame to return; earlier ones are dropped.
        number: number of this frame.
    """

    key: KeyFrame
    tick: int
    number: int


def find_start(path: Path, scan: Scan, number: int) -> Start | None:
    """The latest safe position to start decoding for a frame; None: the first frame of the video.

    Args:
        path: the video.
        scan: scan of the same file.
        number: number of the requested frame.

    Raises:
        InputError: the file can no longer be opened.
    """
    if number == 0 or not scan.is_seekable:
        return None
    tick = int(scan.shown[number])
    indices = [i for i, key in enumerate(scan.key_frames) if key.is_ahead and key.tick <= tick]
    for index in reversed(indices[-_TRIES:]):
        key = scan.key_frames[index]
        try:
            earlier = 0 if _is_closed(path, scan, key) else _EARLIER
            if index < earlier:
                return None
            if _decodes(path, scan, index - earlier, index):
                first = int(np.searchsorted(scan.shown, key.tick))
                return Start(scan.key_frames[index - earlier], key.tick, first)
        except NotThereError:
            continue
    return None


def _is_closed(path: Path, scan: Scan, key: KeyFrame) -> bool:
    """Whether no frame decoded after a key frame refers to an earlier one."""
    with open_video(path) as (container, stream):
        _, packet = next(Decoder(container, stream, scan.shifts, "AUTO").packets(key))
        return resets_decoder(packet, stream.codec_context)


def resets_decoder(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    """Whether no frame from a key frame's packet on refers to an earlier one."""
    codec = context.name
    if codec not in ("h264", "hevc"):
        return codec in _ALWAYS_CLOSED
    units = _units(bytes(packet), context.extradata or b"", codec == "hevc")
    if codec == "h264":
        return any(unit[0] & 0x1F in _CLOSED_H264 for unit in units)
    return any(unit[0] >> 1 & 0x3F in _CLOSED_HEVC for unit in units)


def _units(data: bytes, extradata: bytes, is_hevc: bool) -> list[bytes]:
    """The starts of a packet's NAL units, split by start codes or lengths (ISO 14496-15)."""
    if not extradata.startswith(b"\1"):
        return [unit for unit in data.split(b"\0\0\1")[1:] if unit]
    at = 21 if is_hevc else 4
    length = (extradata[at] & 3) + 1 if len(extradata) > at else 4
    units, position = [], 0
    while position + length < len(data):
        size = int.from_bytes(data[position : position + length], "big")
        units.append(data[position + length : position + length + 2])
        position += length + size
    return units


def _decodes(path: Path, scan: Scan, first: int, last: int) -> bool:
    """Whether decoding from key frame ``first`` to key frame ``last`` yields all frames.

    Frames before the key frame after ``first`` may be missing, unless ``first`` is ``last``.
    """
    keys = scan.key_frames
    begin, end = keys[min(first + 1, last)], keys[last]
    missing: set[int | None] = set()
    with open_video(path) as (container, stream):
        # report errors that the decoder would conceal; loop filters detect none
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
        stream.codec_context.thread_count = 1  # several threads can deadlock after an error
        codec = stream.codec_context.name
        decoder = Decoder(container, stream, scan.shifts, "SLICE")
        for number, packet, frames in decoder.run(keys[first]):
            tick = decoder.tick
            is_between = tick is not None and begin.tick <= tick <= end.tick
            if is_between and packet and is_shown(packet, codec) and not decoder.is_second_field:
                missing.add(number)
            for frame in frames:
                if frame.is_corrupt:
                    return False
                missing.discard(number_of(frame))
            if number >= end.number and not missing:
                return True
            if number > end.number + _DELAY:
                return False
    return not missing
