"""Where to begin decoding so that the frames from some number on are those of the whole video.

Decoding may begin in the middle where the number of every frame is known from the packets alone,
and where a key frame makes the decoder forget all that came before. Wherever one of these is in
doubt, decoding begins at the first frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from queryinst_vis.video.container import open_video
from queryinst_vis.video.packets import Decoder, NotThereError, number_of
from queryinst_vis.video.scan import KeyFrame, Scan, is_shown

_TRIES = 4  # key frames that are looked at before decoding begins at the first frame
_EARLIER = 2  # key frames before one whose pictures may refer to those in front of it
_DELAY = 64  # packets after which a picture that has not come will not come
_CLOSED_H264 = {5}  # IDR (H.264, table 7-1)
_CLOSED_HEVC = {19, 20}  # IDR (H.265, table 7-1)
_ALWAYS_CLOSED = {"mjpeg", "prores", "dnxhd", "ffv1", "rawvideo", "huffyuv", "vp8", "vp9", "av1"}
"""Codecs whose key frames reset the decoder; other codecs' may be followed by pictures that refer
to what was before."""


@dataclass(frozen=True)
class Start:
    """Where decoding begins.

    Attributes:
        key: the first packet that is decoded.
        tick: pictures that are shown before are dropped.
        number: of the picture that is shown at ``tick``.
    """

    key: KeyFrame
    tick: int
    number: int


def find_start(path: Path, scan: Scan, number: int) -> Start | None:
    """The latest safe place to begin for a frame; None: at the first frame of the video.

    Args:
        path: the video.
        scan: of the same file.
        number: of the frame that is wanted.

    Raises:
        InputError: the file can no longer be opened.
    """
    if number == 0 or not scan.is_seekable:
        return None
    wanted = int(scan.shown[number])
    indices = [i for i, key in enumerate(scan.key_frames) if key.is_ahead and key.tick <= wanted]
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
    """Whether nothing that is decoded after a key frame refers to what was before it."""
    with open_video(path) as (container, stream):
        _, packet = next(Decoder(container, stream, scan.shifts, "AUTO").packets(key))
        return resets_decoder(packet, stream.codec_context)


def resets_decoder(packet: av.Packet, context: av.VideoCodecContext) -> bool:
    """Whether no picture from a key frame's packet on refers to what was before it."""
    codec = context.name
    if codec not in ("h264", "hevc"):
        return codec in _ALWAYS_CLOSED
    units = _units(bytes(packet), context.extradata or b"", codec == "hevc")
    if codec == "h264":
        return any(unit[0] & 0x1F in _CLOSED_H264 for unit in units)
    return any(unit[0] >> 1 & 0x3F in _CLOSED_HEVC for unit in units)


def _units(data: bytes, extradata: bytes, is_hevc: bool) -> list[bytes]:
    """The NAL units of a packet, by start codes or by lengths (ISO 14496-15), their beginnings."""
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
    """Whether decoding from a key frame on gives a later one, and what is between, without error.

    Pictures up to the key frame after ``first`` may be missing, unless that is the last one.
    """
    keys = scan.key_frames
    begin, end = keys[min(first + 1, last)], keys[last]
    missing: set[int | None] = set()
    with open_video(path) as (container, stream):
        # An error that the decoder would conceal is to be one. Filters do not find any.
        stream.codec_context.options = {"err_detect": "explode", "skip_loop_filter": "all"}
        stream.codec_context.thread_count = 1  # several can wait for each other after an error
        codec = stream.codec_context.name
        decoder = Decoder(container, stream, scan.shifts, "SLICE")
        for number, packet, frames in decoder.run(keys[first]):
            tick = decoder.tick
            is_wanted = tick is not None and begin.tick <= tick <= end.tick
            if is_wanted and packet and is_shown(packet, codec) and not decoder.is_second_field:
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
