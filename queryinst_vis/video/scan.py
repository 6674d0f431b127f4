"""Scanning the packets of a video file without decoding them."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.video.container import (
    ends_early,
    is_fragmented,
    open_video,
    promised_frames,
    reason,
    time_base_of,
)
from queryinst_vis.video.fields import FieldPairs
from queryinst_vis.video.gaps import find_avi_gaps, find_gaps

DISCONTINUITY = 1.0
"""Minimum backward jump in seconds that indicates a restarted clock."""

_BROADCASTS = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "vvc", "m4v", "flv", "live_flv")
"""Formats that may start midway, so that nothing is shown before the first key frame."""
_UNTIMED = 0.1  # maximum ratio of frames without to frames with timestamps
NOT_CODED = 8  # maximum bytes of an MPEG-4 frame that only repeats the previous one
_NEVER = -(2**63)
_DEFAULT_RATE = 25  # frames per second if unspecified, as in FFmpeg


class KeyFrame(NamedTuple):
    """A packet at which decoding can start.

    Attributes:
        number: of the packet.
        tick, dts: presentation and decoding time, in ticks.
        size: in bytes.
        is_ahead: whether all previous packets are shown earlier.
    """

    number: int
    tick: int
    dts: int
    size: int
    is_ahead: bool


@dataclass(frozen=True)
class Scan:
    """The frames of a file according to its packets.

    Attributes:
        frames: number of frames that a player shows, including damaged ones.
        shown: presentation times in ticks, ascending; without frames that have no timestamp.
        time_base: seconds per tick.
        rate: frames per second, the average if variable.
        is_variable: whether frames deviate by more than half a frame from a constant rate.
        has_times: whether the frames have timestamps, with few exceptions.
        is_sequential: whether packets are in the order of their times. Either frames are not
            reordered, or the file has only decoding times, which do not determine the order.
        first_packet: number of the first packet that counts. In a broadcast joined midway it is
            the first key frame: nothing before it can be decoded.
        first_tick: presentation time of that key frame, if known. Frames shown before it depend on
            missing ones.
        shifts: corrections of the times (see ``Ticks``).
        gaps: ticks of frames with missing packets, ascending.
        lost: number of frames without a packet.
        key_frames: of a file that ``is_seekable``.
        is_seekable: whether the packet times determine the number of every frame.
        pixel_aspect: width / height of a stored pixel.
        notes: irregularities of the file.
    """

    frames: int
    shown: np.ndarray
    time_base: Fraction
    rate: Fraction
    is_variable: bool
    has_times: bool
    is_sequential: bool
    first_packet: int
    first_tick: int | None
    shifts: list[tuple[int, int]]
    gaps: list[int]
    lost: int
    key_frames: list[KeyFrame]
    is_seekable: bool
    pixel_aspect: Fraction
    notes: list[str]

    def seconds(self) -> np.ndarray:
        """``(frames,)`` time of each frame; evenly spaced if unknown."""
        if self.has_times and len(self.shown) == self.frames:
            return self.shown * self.time_base.numerator / self.time_base.denominator
        return np.arange(self.frames) / float(self.rate)


class Ticks:
    """Presentation times of packets on a continuous clock, in units of the stream's time base.

    If recordings were concatenated and their clock restarts, this one continues.

    Args:
        time_base: seconds per tick.
        shifts: ``(packet number, ticks)``: offset of the times starting at that packet.

    Attributes:
        has_restarted: whether the clock of the file has restarted.
    """

    def __init__(self, time_base: Fraction, shifts: Sequence[tuple[int, int]] = ()) -> None:
        self.has_restarted = False
        self._tolerance = round(DISCONTINUITY / time_base)
        self._shifts = deque(shifts)
        self._shift = 0
        self._number = -1
        self._last: int | None = None  # decoding time, in ticks of the file
        self._next = 0  # where the clock continues after a restart

    def of(self, packet: av.Packet) -> int | None:
        """Presentation time of the next packet; None if unknown."""
        self._number += 1
        while self._shifts and self._shifts[0][0] <= self._number:
            self._shift = self._shifts.popleft()[1]
        pts, dts = packet.pts, packet.dts
        if dts is not None:
            if self._last is not None and dts < self._last - self._tolerance:
                self._shift = self._next - (dts if pts is None else pts)
                self.has_restarted = True
            self._last = dts
        if pts is None:
            return None
        tick = pts + self._shift
        self._next = max(self._next, tick + (packet.duration or 1))
        return tick


def is_shown(packet: av.Packet, codec: str) -> bool:
    """Whether a packet contains a visible frame.

    Edit lists hide some frames, dropped frames leave empty packets, and VP8 has hidden reference
    frames (RFC 6386, 9.1).
    """
    if packet.size == 0 or packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & 0x10)


def scan(path: Path, allow_partial: bool = False) -> Scan:
    """Scan a file.

    Args:
        path: the video.
        allow_partial: accept a file whose end is missing.

    Raises:
        InputError: not a video, or truncated.
    """
    with open_video(path) as (container, stream):
        packets = _read(container, stream)
        notes = _check_length(path, container, stream, packets, allow_partial)
        format_name, time_base = container.format.name, time_base_of(stream)
        shifts: list[tuple[int, int]] = []
        if format_name == "avi" and len(stream.index_entries) > packets.count:
            shifts, gaps = find_avi_gaps(path)
            with open_video(path) as again:
                packets = _read(*again, shifts)
        else:
            gaps = find_gaps(path, format_name, packets.count, np.sort(packets.times), time_base)
        has_times = packets.untimed <= _UNTIMED * len(packets.times)
        shown = np.sort(np.concatenate([packets.times, gaps]).astype(np.int64))
        rate = _average_rate(shown if has_times else shown[:0], stream)
        is_sequential = bool(np.all(np.diff(packets.times) > 0))
        is_reordered = is_sequential and stream.codec_context.has_b_frames
        is_seekable = packets.is_plain and not (shifts or len(gaps) or notes or is_reordered)
        return Scan(
            frames=len(packets.times) + max(packets.untimed, len(gaps)),
            shown=shown,
            time_base=time_base,
            rate=rate,
            is_variable=has_times and _is_variable(shown, time_base, rate),
            has_times=has_times,
            is_sequential=is_sequential,
            first_packet=max(packets.first, 0),
            first_tick=packets.first_tick,
            shifts=shifts,
            gaps=gaps if has_times else [],
            lost=max(0, len(gaps) - packets.untimed),  # frames without a timestamp may fill gaps
            key_frames=packets.key_frames if is_seekable else [],
            is_seekable=is_seekable and bool(np.all(np.diff(shown) > 0)),
            pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
            notes=notes,
        )


@dataclass(frozen=True)
class _Packets:
    """Summary of the packets of a stream.

    Attributes:
        count: number of packets.
        times: of visible frames with a timestamp, in decoding order.
        untimed: number of visible frames without a timestamp.
        first, first_tick: ``first_packet`` and ``first_tick`` of a ``Scan``.
        key_frames: those with known times.
        is_plain: whether every packet with a frame has a timestamp and there are no irregularities.
        is_cut: whether the last packet is incomplete.
        fault: the error that ended reading, "" at the end of the file.
    """

    count: int
    times: np.ndarray
    untimed: int
    first: int
    first_tick: int | None
    key_frames: list[KeyFrame]
    is_plain: bool
    is_cut: bool
    fault: str


def _read(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    shifts: Sequence[tuple[int, int]] = (),
) -> _Packets:
    reader = _PacketReader(container, stream, shifts)
    fault = ""
    try:
        for packet in container.demux(stream):
            if packet.size or packet.dts is not None:  # not PyAV's request to flush the decoder
                reader.add(packet)
    except av.FFmpegError as error:
        # the end of a multipart JPEG file is such an error, too
        fault = "" if container.format.name == "mpjpeg" else reason(error)
    return reader.summary(fault)


class _PacketReader:
    """Collects what a ``_Packets`` summarises.

    Args:
        container, stream: of the file.
        shifts: as for ``Ticks``.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        shifts: Sequence[tuple[int, int]],
    ) -> None:
        self._codec = stream.codec_context.name
        self._is_broadcast = container.format.name in _BROADCASTS
        self._ticks = Ticks(time_base_of(stream), shifts)
        self._fields = FieldPairs(stream.codec_context)
        self._count = self._untimed = 0
        self._first = -1
        self._first_tick: int | None = None
        self._times = array("q")
        self._key_frames: list[KeyFrame] = []
        self._latest = _NEVER
        self._is_plain, self._is_cut = True, False

    def add(self, packet: av.Packet) -> None:
        """Add the next packet."""
        self._is_cut = packet.is_corrupt
        tick = self._ticks.of(packet)
        is_second_field = self._fields.is_second(packet)
        if self._first < 0 and (packet.is_keyframe or not self._is_broadcast):
            self._first, self._first_tick = self._count, tick if packet.is_keyframe else None
            self._times, self._untimed = array("q"), 0
        if packet.is_keyframe and tick is not None and packet.dts is not None:
            is_ahead = tick > self._latest
            key_frame = KeyFrame(self._count, tick, packet.dts, packet.size, is_ahead)
            self._key_frames.append(key_frame)
        if tick is not None:
            self._latest = max(self._latest, tick)
        self._count += 1
        if not is_second_field and is_shown(packet, self._codec):
            self._add_frame(packet, tick)

    def _add_frame(self, packet: av.Packet, tick: int | None) -> None:
        if self._codec == "mpeg4" and packet.size <= NOT_CODED:
            self._is_plain = False
        if tick is None:
            self._untimed += 1
        elif self._first_tick is None or tick >= self._first_tick:
            self._times.append(tick)
        else:
            self._is_plain = False

    def summary(self, fault: str) -> _Packets:
        """The summary of all packets; ``fault`` is the error that ended reading, or ""."""
        is_irregular = (
            self._untimed or self._ticks.has_restarted or self._first > 0 or fault or self._is_cut
        )
        return _Packets(
            self._count,
            np.array(self._times, np.int64),
            self._untimed,
            self._first,
            self._first_tick,
            self._key_frames,
            self._is_plain and not is_irregular,
            self._is_cut,
            fault,
        )


def _check_length(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    packets: _Packets,
    allow_partial: bool,
) -> list[str]:
    """Notes on a file whose frames differ from its header."""
    promised = promised_frames(container, stream)
    held = f"its header specifies {promised} frames, but the file contains {packets.count}"
    is_short = packets.count < promised or packets.is_cut
    is_readable = "matroska" in container.format.name  # up to the end of the data
    if is_readable or ("mp4" in container.format.name and is_fragmented(path)):
        if ends_early(path, container, stream):
            return [f"truncated after frame {packets.count}; only the frames before are read"]
    elif is_short and promised and ends_early(path, container, stream):
        if not allow_partial:
            raise InputError(
                f"video {path}: truncated or damaged: {held}; copy or download it again, or use "
                "the available part with allow_partial (track --allow-partial)"
            )
        return [f"truncated: {held}, which are read"]
    if packets.count < promised:
        return [f"{held}, which are read; the others may have been dropped by the recorder"]
    if packets.fault:
        return [
            f"reading stops after frame {packets.count} ({packets.fault}); only the frames before "
            "are read"
        ]
    return []


def _average_rate(shown: np.ndarray, stream: av.VideoStream) -> Fraction:
    """The nominal frame rate if the frames match it, otherwise the average."""
    # the default of 25 frames per second is that of FFmpeg
    named = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    if len(shown) < 2 or shown[-1] == shown[0]:
        return named[0] if named else Fraction(_DEFAULT_RATE)
    seconds = int(shown[-1] - shown[0]) * time_base_of(stream)
    intervals = len(shown) - 1
    for rate in named:
        if abs(intervals - seconds * rate) <= 1:  # frame
            return rate
    return Fraction(intervals) / seconds


def _is_variable(shown: np.ndarray, time_base: Fraction, rate: Fraction) -> bool:
    if len(shown) < 2:
        return False
    frames = (shown - shown[0]) * float(time_base * rate)
    return bool(np.any(np.abs(frames - np.arange(len(shown))) > 0.5))
