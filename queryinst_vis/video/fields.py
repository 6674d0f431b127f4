"""Frames of interlaced H.264 with the two fields in separate packets.

Each field has a timestamp, and the decoder makes one frame of them. FFmpeg does not distinguish
packets of fields and frames, so the start of their first slice is parsed (ITU-T H.264, 7.3.2.1.1
and 7.3.3). In other codecs both fields are in one packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av

_SLICE, _IDR_SLICE, _PARAMETERS = 1, 5, 7  # types of units (H.264, table 7-1)
_WITH_CHROMA_FORMAT = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}  # profiles
_READ = 400  # bytes at the start of a unit: more than these headers need


@dataclass(frozen=True)
class _Sequence:
    """Parameters that slice headers depend on."""

    has_fields: bool
    frame_number_bits: int
    has_colour_planes: bool


@dataclass(frozen=True)
class _Field:
    """A field.

    Attributes:
        frame: the frame number shared with the other field.
        is_bottom: whether it has the odd rows.
        may_be_second: false for an IDR field, which comes first.
    """

    frame: int
    is_bottom: bool
    may_be_second: bool


class FieldPairs:
    """Detects packets with the second field of a frame.

    Args:
        context: of the stream.
    """

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._is_h264 = context.name == "h264"
        self._sequence: _Sequence | None = None
        self._open: _Field | None = None  # a first field without its second field yet
        header = context.extradata or b""
        self._length_size = (header[4] & 3) + 1 if header[:1] == b"\x01" and len(header) > 6 else 0
        if self._is_h264 and self._length_size:
            size = int.from_bytes(header[6:8], "big")
            self._read_parameters(header[8 : 8 + size])
        elif self._is_h264:
            for unit in _split_by_start_codes(header):
                self._read_parameters(unit)

    def is_second(self, packet: av.Packet) -> bool:
        """Whether the next packet of the stream is the second field of the previous one."""
        if not self._is_h264 or not packet.size:
            return False
        if self._length_size and self._sequence and not self._sequence.has_fields:
            return False  # the common case
        fields = []
        for unit in self._units(memoryview(packet)):
            self._read_parameters(unit)
            kind = unit[0] & 0x1F
            if kind in (_SLICE, _IDR_SLICE) and self._sequence is not None:
                if not self._sequence.has_fields:
                    break
                fields.append(_read_field(unit, self._sequence))
        first = fields[0] if fields else None
        is_second = (
            first is not None
            and first.may_be_second
            and self._open is not None
            and first.frame == self._open.frame
            and first.is_bottom != self._open.is_bottom
        )
        is_whole = is_second or first is None or first.is_bottom != _parity(fields[-1])
        self._open = None if is_whole else first
        return is_second

    def _read_parameters(self, unit: bytes) -> None:
        if unit and unit[0] & 0x1F == _PARAMETERS:
            self._sequence = _read_sequence(unit) or self._sequence

    def _units(self, data: memoryview) -> Iterator[bytes]:
        if not self._length_size:
            yield from _split_by_start_codes(bytes(data))
            return
        start = 0
        while start + self._length_size < len(data):
            size = int.from_bytes(data[start : start + self._length_size], "big")
            start += self._length_size
            if size:
                yield bytes(data[start : start + min(size, _READ)])
            start += size


def _parity(field: _Field | None) -> bool | None:
    return None if field is None else field.is_bottom


def _split_by_start_codes(data: bytes) -> Iterator[bytes]:
    """The starts of the units of a byte stream (annex B)."""
    start = data.find(b"\0\0\1")
    while start >= 0:
        start += 3
        following = data.find(b"\0\0\1", start)
        unit = data[start : min(start + _READ, following if following >= 0 else len(data))]
        if unit:
            yield unit
        start = following


class _Bits:
    """Reads the bits of a unit after its first byte; padded with ones."""

    def __init__(self, unit: bytes) -> None:
        data = unit[1:].replace(b"\0\0\3", b"\0\0")  # emulation prevention (7.4.1)
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as an integer."""
        self._left -= count
        if self._left < 0:
            return (1 << count) - 1
        return self._value >> self._left & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next number in Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _read_sequence(unit: bytes) -> _Sequence | None:
    """The relevant part of a sequence parameter set; None if damaged."""
    bits = _Bits(unit)
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()  # its number
    has_colour_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        chroma = bits.golomb()
        has_colour_planes = chroma == 3 and bool(bits.take(1))
        bits.golomb(), bits.golomb(), bits.take(1)  # bit depths, lossless transform
        if bits.take(1):
            for number in range(8 if chroma != 3 else 12):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_number_bits = bits.golomb() + 4
    order = bits.golomb()  # type of picture order count
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1), bits.golomb(), bits.golomb()
        for _ in range(min(bits.golomb(), 255)):
            bits.golomb()
    bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()  # references, gaps, size
    has_fields = not bits.take(1)
    if frame_number_bits > 16:
        return None
    return _Sequence(has_fields, frame_number_bits, has_colour_planes)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()
            following = (last + (code // 2 + 1 if code % 2 else -code // 2)) % 256
        last = following or last


def _read_field(unit: bytes, sequence: _Sequence) -> _Field | None:
    """The field that a slice belongs to; None for a slice of a frame."""
    bits = _Bits(unit[:_READ])
    bits.golomb(), bits.golomb(), bits.golomb()  # first macroblock, type, parameters
    if sequence.has_colour_planes:
        bits.take(2)
    frame = bits.take(sequence.frame_number_bits)
    if not bits.take(1):
        return None
    return _Field(frame, bool(bits.take(1)), unit[0] & 0x1F != _IDR_SLICE)
