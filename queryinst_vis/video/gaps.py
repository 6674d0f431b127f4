"""Frames whose packets were lost due to damage of the container.

A gap in the frame times is not sufficient, since recorders drop frames as well. The file must
show evidence of lost data.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from queryinst_vis.video.container import open_video

_LONGEST = 10.0  # seconds; longer gaps are pauses, not losses
_STEADY = 0.9  # minimum fraction of equal frame intervals
_FEW = 10  # minimum number of frame intervals to estimate the rate
_RIFF_HEADER = 8  # bytes before the data of a chunk
_OVERHEAD = 200  # maximum bytes between two packets of a Matroska file
_TS_PACKET, _TS_SYNC = 188, 0x47  # bytes (ISO 13818-1, 2.4.3)
_CHUNK = 1 << 24  # maximum bytes processed together; whole packets


def find_gaps(
    path: Path, format_name: str, packets: int, shown: np.ndarray, time_base: Fraction
) -> list[int]:
    """Times at which frames are missing, ascending.

    Args:
        path: a Matroska, WebM or MPEG-TS file; others have no gaps.
        format_name: FFmpeg's name.
        packets: number of packets.
        shown: times of the existing frames, ascending.
        time_base: of the times, in seconds.
    """
    gaps = _holes(shown, time_base)
    if not gaps:
        return []
    if "matroska" in format_name:
        return gaps if _skips_bytes(path) else []
    return gaps if format_name == "mpegts" and _is_damaged_transport(path, packets) else []


def find_avi_gaps(path: Path) -> tuple[list[tuple[int, int]], list[int]]:
    """Packets in the index of an AVI that are missing in the file; dropped frames are in neither.

    Returns:
        ``(shifts, gaps)``: corrections of the packet times, which FFmpeg counts as if
        nothing were missing (see ``Ticks``); and the times of missing frames, ascending.
    """
    shifts: list[tuple[int, int]] = []
    with open_video(path) as (container, stream):
        missing = {entry.pos + _RIFF_HEADER: entry.timestamp for entry in stream.index_entries}
        delay = 0  # between decoding and presentation
        shift = 0  # of the index relative to the packets
        try:
            for number, packet in enumerate(container.demux(stream)):
                if packet.dts is None or packet.pos not in missing:
                    continue
                timestamp = missing.pop(packet.pos)
                if number == 0 and packet.pts is not None:
                    delay = packet.pts - packet.dts
                if timestamp - packet.dts != shift:
                    shift = timestamp - packet.dts
                    shifts.append((number, shift))
        except av.FFmpegError:
            pass  # the rest is missing
    return shifts, sorted(timestamp + delay for timestamp in missing.values())


def _holes(shown: np.ndarray, time_base: Fraction) -> list[int]:
    """Missing times in a stream with an otherwise constant frame rate."""
    steps = np.diff(shown)
    if len(steps) < _FEW:
        return []
    step = float(np.median(steps))
    if step <= 0 or np.mean(np.abs(steps - step) <= max(step / 10, 1)) < _STEADY:
        return []
    step = float(np.mean(steps[np.abs(steps - step) <= max(step / 10, 1)]))  # times are rounded
    missing = np.rint(steps / step).astype(np.int64) - 1
    is_hole = (missing > 0) & (np.abs(steps - (missing + 1) * step) <= step / 4)
    is_hole &= missing <= _LONGEST / float(step * time_base)
    return [
        round(int(shown[hole]) + step * number)
        for hole in np.flatnonzero(is_hole)
        for number in range(1, int(missing[hole]) + 1)
    ]


def _skips_bytes(path: Path) -> bool:
    """Whether a Matroska demuxer had to skip bytes to find the next packet."""
    with open_video(path) as (container, _):
        end = None
        try:
            for packet in container.demux():
                if packet.pos is None or not packet.size:
                    continue
                if end is not None and packet.pos - end > _OVERHEAD:
                    return True
                end = max(end or 0, packet.pos + packet.size)
        except av.FFmpegError:
            return True
        return False


def _is_damaged_transport(path: Path, pictures: int) -> bool:
    """Whether an MPEG-TS file has lost data.

    Packets are damaged, or missing according to their continuity counters, or announced frames
    do not start.
    """
    with open_video(path) as (_, stream):
        pid = stream.id
    last, announced = None, 0
    with path.open("rb") as file:
        while data := file.read(_CHUNK - _CHUNK % _TS_PACKET):
            packets = np.frombuffer(data, np.uint8)[: len(data) // _TS_PACKET * _TS_PACKET]
            packets = packets.reshape(-1, _TS_PACKET)
            if (packets[:, 0] != _TS_SYNC).any():
                return True
            pids = (packets[:, 1] & 0x1F).astype(np.int64) << 8 | packets[:, 2]
            packets = packets[(pids == pid) & (packets[:, 3] & 0x10 > 0)]  # with a payload
            starts = packets[packets[:, 1] & 0x40 > 0]
            announced += len(starts)
            counters = (packets[:, 3] & 0x0F).astype(np.int64)
            if last is not None:
                counters = np.concatenate([[last], counters])
            is_continuous = (np.diff(counters) % 16 <= 1).all()  # duplicates are allowed
            if not (is_continuous and _have_start_codes(starts)):
                return True
            last = counters[-1] if len(counters) else last
    return announced > pictures


def _have_start_codes(packets: np.ndarray) -> bool:
    """Whether MPEG-TS packets with the start of a frame begin with a start code."""
    has_adaptation = packets[:, 3] & 0x20 > 0
    starts = 4 + np.where(has_adaptation, 1 + packets[:, 4].astype(np.int64), 0)
    columns = np.minimum(starts[:, None] + np.arange(3), _TS_PACKET - 1)
    codes = np.take_along_axis(packets, columns, axis=1)
    return bool((codes == [0, 0, 1]).all())
