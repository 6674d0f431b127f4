"""Decoding a video so that every frame keeps its number, even if some cannot be decoded."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av

from queryinst_vis.video.container import open_video, time_base_of
from queryinst_vis.video.packets import Decoder, is_second_field, number_of
from queryinst_vis.video.scan import NOT_CODED, KeyFrame, Scan, is_shown
from queryinst_vis.video.seek import Start

# Maximum reordering: frames decoded before one that is shown earlier (H.264, A.3.1; HEVC, A.4)
_REORDERED = {"h264": 16, "hevc": 16, "vvc": 16}
_REORDERED_ELSEWHERE = 2
_UNTIMED = -(2**62)  # tick of packets without a timestamp
_KEY_FRAMES = 64  # key frames that are kept: more than any decoder delays


@dataclass(frozen=True)
class Picture:
    """A decoded frame of a video.

    Attributes:
        seconds: its time; None if unknown.
        frame: None if it cannot be decoded.
    """

    seconds: float | None
    frame: av.VideoFrame | None


@dataclass(frozen=True)
class _Packet:
    """A packet sent to the decoder; ``is_expected``: it must yield a frame."""

    tick: int
    is_expected: bool


@dataclass(frozen=True)
class _Arrival:
    """A frame returned by the decoder."""

    number: int
    tick: int
    frame: av.VideoFrame


def decode(path: Path, scan: Scan, start: Start | None = None) -> Generator[Picture, None, None]:
    """The frames that a player shows, in order, decoded by several threads a few frames ahead.

    A frame is matched with its packet by the packet number. A packet whose frame is missing
    when later ones have been returned counts as damaged, whether or not the decoder reported an
    error.

    Args:
        path: the video.
        scan: of the same file.
        start: from ``find_start``: start at the frame ``start.number``; None: at the
            first one.

    Raises:
        InputError: the file can no longer be opened.
    """
    if start is None:
        yield from _decode_from(path, scan, None)
        return
    scan = replace(scan, first_packet=start.key.number, first_tick=start.tick)
    first = start.tick * scan.time_base.numerator / scan.time_base.denominator
    for picture in _decode_from(path, scan, start.key):
        if picture.seconds is None or picture.seconds >= first:
            yield picture


def _decode_from(path: Path, scan: Scan, start: KeyFrame | None) -> Generator[Picture, None, None]:
    with open_video(path) as (container, stream):
        places = _Places(scan, stream)
        decoder = Decoder(container, stream, scan.shifts, "AUTO")
        for number, packet, frames in decoder.run(start):
            if packet is not None and not decoder.is_second_field:
                places.expect(number, packet, decoder.tick)
            for frame in frames:
                yield from places.put(frame)
    if places.lacks_end():
        yield from _decode_end_again(path, scan, start, places)
    yield from places.finish()


def _decode_end_again(
    path: Path, scan: Scan, start: KeyFrame | None, places: _Places
) -> Iterator[Picture]:
    """Decode from the last key frame without frame threading.

    After an error while flushing a decoder, FFmpeg returns nothing more, which with frame threading
    loses many frames.
    """
    with open_video(path) as (container, stream):
        decoder = Decoder(container, stream, scan.shifts, "SLICE")
        for _, _, frames in decoder.run(start, places.last_key_frame()):
            for frame in frames:
                if places.waits_for(frame):
                    yield from places.put(frame)


class _Places:
    """Reorders frames and detects missing ones.

    Attributes:
        waiting: packets whose frames have not been returned yet, by number.
    """

    def __init__(self, scan: Scan, stream: av.VideoStream) -> None:
        self.waiting: dict[int, _Packet] = {}
        self._scan = scan
        self._codec = stream.codec_context.name
        self._time_base = time_base_of(stream)
        self._reordered = _REORDERED.get(self._codec, _REORDERED_ELSEWHERE)
        self._key_frames: deque[int] = deque(maxlen=_KEY_FRAMES)
        self._gaps = deque(scan.gaps)
        self._held: list[_Arrival] = []  # by ticks; others may precede them
        self._trusts_ticks = scan.has_times
        self._latest = -1  # the highest number of a returned frame
        self._tick = 0  # of the last returned frame

    def expect(self, number: int, packet: av.Packet, tick: int | None) -> None:
        """Register a packet sent to the decoder."""
        if packet.is_keyframe:
            self._key_frames.append(number)
        scan = self._scan
        is_expected = (
            number >= scan.first_packet
            and (tick is None or scan.first_tick is None or tick >= scan.first_tick)
            and (tick is not None or not scan.has_times)  # it may still arrive and fill a gap
            and is_shown(packet, self._codec)
            and not (self._codec == "mpeg4" and packet.size <= NOT_CODED)
        )
        self.waiting[number] = _Packet(_UNTIMED if tick is None else tick, is_expected)

    def lacks_end(self) -> bool:
        """Whether frames at the end are missing."""
        return any(
            packet.is_expected and not self._is_overdue(number)
            for number, packet in self.waiting.items()
        )

    def last_key_frame(self) -> int:
        """The number of the key frame from which all missing frames can be decoded."""
        first = min(self.waiting)
        return max((number for number in self._key_frames if number <= first), default=0)

    def put(self, frame: av.VideoFrame) -> Iterator[Picture]:
        """Add a frame from the decoder; yield the frames that are now complete in order."""
        number = self._number(frame)
        packet = self.waiting.pop(number, None)
        if packet is None and (number != self._latest or is_second_field(frame)):
            return  # too late: it was already replaced
        tick = self._tick if packet is None else packet.tick
        if tick == _UNTIMED and self._trusts_ticks:
            tick = self._take_gap()
        arrival = _Arrival(number, tick, frame)
        self._latest, self._tick = max(self._latest, number), tick
        is_early = bool(self._held) and tick < self._held[-1].tick
        if is_early and self._scan.is_sequential:
            self._trusts_ticks = False  # they are decoding timestamps
        if not self._trusts_ticks or (is_early and self._codec not in _REORDERED):
            # the decoder's order is more reliable than a wrong timestamp
            yield from (Picture(None, held.frame) for held in self._held)
            self._held.clear()
        if self._trusts_ticks:
            insort(self._held, arrival, key=lambda held: held.tick)
            yield from self._release()
        else:
            yield from self._missing([n for n in self.waiting if self._is_overdue(n)])
            yield Picture(None, frame)

    def waits_for(self, frame: av.VideoFrame) -> bool:
        """Whether this frame has not been returned yet."""
        return self._number(frame) in self.waiting

    def _number(self, frame: av.VideoFrame) -> int:
        number = number_of(frame)
        return min(self.waiting, default=self._latest) if number is None else number

    def finish(self) -> Iterator[Picture]:
        """Yield the remaining frames at the end."""
        yield from self._release(is_final=True)
        yield from self._missing(list(self.waiting))

    def _release(self, is_final: bool = False) -> Iterator[Picture]:
        """Yield the frames that nothing can precede any more, and missing ones."""
        while self._held:
            tick = self._held[0].tick
            earlier = [n for n, packet in self.waiting.items() if packet.tick < tick]
            overdue = [n for n in earlier if is_final or self._is_overdue(n)]
            if any(self.waiting[n].is_expected for n in earlier if n not in overdue):
                return
            yield from self._missing(overdue)
            yield from self._lost_before(tick)
            yield Picture(self._seconds(tick), self._held.pop(0).frame)

    def _is_overdue(self, number: int) -> bool:
        return number < self._latest - self._reordered

    def _missing(self, numbers: list[int]) -> Iterator[Picture]:
        """Mark these packets as missing."""
        if self._trusts_ticks:
            numbers = sorted(numbers, key=lambda number: self.waiting[number].tick)
        for number in numbers:
            packet = self.waiting.pop(number)
            if packet.is_expected:
                yield from self._lost_before(packet.tick)
                yield Picture(self._seconds(packet.tick), None)

    def _lost_before(self, tick: int) -> Iterator[Picture]:
        """Frames whose packets are not in the file."""
        while self._trusts_ticks and self._gaps and self._gaps[0] < tick:
            yield Picture(self._seconds(self._gaps.popleft()), None)

    def _take_gap(self) -> int:
        """Time of a frame without a timestamp, estimated from the previous one."""
        gap = next((gap for gap in self._gaps if gap > self._tick), None)
        if gap is None:
            return self._tick
        self._gaps.remove(gap)
        return gap

    def _seconds(self, tick: int) -> float | None:
        return float(tick * self._time_base) if self._trusts_ticks else None
