"""Decoding numbered packets, from the first one or from a key frame."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import av

from queryinst_vis.video.container import time_base_of
from queryinst_vis.video.fields import FieldPairs
from queryinst_vis.video.scan import KeyFrame, Ticks

_MAX_READ = 20_000  # maximum number of packets between the result of a seek and the key frame


class NotThereError(Exception):
    """A key frame was not found after a seek."""


class _Number:
    """The number of a packet, which the decoder passes on to the frame.

    The second field of a frame has the number of the first field.

    An object, since PyAV identifies opaque values by identity: equal ints of two decoders would be
    confused.
    """

    __slots__ = ("is_second_field", "value")

    def __init__(self, value: int, is_second_field: bool) -> None:
        self.value = value
        self.is_second_field = is_second_field


class Decoder:
    """Sends the numbered packets of a stream to its decoder.

    Attributes:
        tick: presentation time of the last packet read; None if unknown.
        is_second_field: whether this packet belongs to the frame of the previous one.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        shifts: list[tuple[int, int]],
        threads: str,
    ) -> None:
        self.tick: int | None = None
        self.is_second_field = False
        self._container = container
        self._stream = stream
        self._context = stream.codec_context
        if not self._context.is_open:  # otherwise, it was set before
            self._context.thread_type = threads
        self._context.copy_opaque = True
        self._ticks = Ticks(time_base_of(stream), shifts)
        self._fields = FieldPairs(self._context)

    def run(
        self, start: KeyFrame | None = None, skip_to: int = 0
    ) -> Iterator[tuple[int, av.Packet | None, list[av.VideoFrame]]]:
        """Yield ``(number, packet, frames returned by the decoder)``, finally without a packet.

        A read error ends the stream; the decoder is flushed nevertheless.

        Args:
            start: key frame at which to start; None: the first packet.
            skip_to: number of the first packet to decode.

        Raises:
            NotThereError: ``start`` was not found.
        """
        number = -1
        first = -1  # number of the packet with the first field of the frame
        try:
            for number, packet in self.packets(start):
                first = first if self.is_second_field else number
                if number >= skip_to and packet.size:  # an empty one would flush the decoder
                    packet.opaque = _Number(first, self.is_second_field)
                    yield number, packet, self._decode(packet)
        except av.FFmpegError:
            pass  # already reported by the scan
        yield number, None, self._decode(None)

    def packets(self, start: KeyFrame | None = None) -> Iterator[tuple[int, av.Packet]]:
        """Yield ``(number, packet)``, and set ``tick`` and ``is_second_field``.

        Raises:
            NotThereError: ``start`` was not found.
        """
        number = -1
        for packet in self._from(start):
            if packet.size == 0 and packet.dts is None:
                break  # PyAV's request to flush the decoder
            number = start.number if start and number < 0 else number + 1
            self.tick = self._ticks.of(packet)
            self.is_second_field = self._fields.is_second(packet)
            yield number, packet

    def _from(self, start: KeyFrame | None) -> Iterator[av.Packet]:
        if start is not None:
            yield self._find(start)
        yield from self._container.demux(self._stream)

    def _find(self, key: KeyFrame) -> av.Packet:
        """Seek to the packet of a key frame."""
        try:
            self._container.seek(key.dts, stream=self._stream)
            for packet in islice(self._container.demux(self._stream), _MAX_READ):
                if packet.pts == key.tick and packet.size == key.size and packet.is_keyframe:
                    return packet
        except av.FFmpegError as error:
            raise NotThereError from error
        raise NotThereError

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Decode a packet, or flush the decoder."""
        try:
            return self._context.decode(packet)
        except av.FFmpegError:
            return []


def is_second_field(frame: av.VideoFrame) -> bool:
    """Whether the decoder returned a separate frame for the second field."""
    return isinstance(frame.opaque, _Number) and frame.opaque.is_second_field


def number_of(frame: av.VideoFrame) -> int | None:
    """The packet number of a frame; None if the decoder does not pass it on."""
    return frame.opaque.value if isinstance(frame.opaque, _Number) else None
