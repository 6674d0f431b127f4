"""Sending packets to a decoder under their numbers, from the first one or from a key frame on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import av

from queryinst_vis.video.container import time_base_of
from queryinst_vis.video.fields import FieldPairs
from queryinst_vis.video.scan import KeyFrame, Ticks

_MOST_READ = 20_000  # packets between where a seek has led and the key frame


class NotThereError(Exception):
    """A key frame is not found where the file was searched for it."""


class _Number:
    """The number of a packet, which goes through the decoder with it.

    The second field of a picture has that of the first.

    PyAV keeps such objects by identity, so that equal ints of two decoders would be taken for one.
    """

    __slots__ = ("is_second_field", "value")

    def __init__(self, value: int, is_second_field: bool) -> None:
        self.value = value
        self.is_second_field = is_second_field


class Decoder:
    """Sends the packets of a stream to its decoder, each under its number.

    Attributes:
        tick: when the picture of the packet that was read last is shown; None: unknown.
        is_second_field: whether that packet belongs to the picture of the one before.
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
        if not self._context.is_open:  # else it has been set before, for this stream
            self._context.thread_type = threads
        self._context.copy_opaque = True
        self._ticks = Ticks(time_base_of(stream), shifts)
        self._fields = FieldPairs(self._context)

    def run(
        self, start: KeyFrame | None = None, skip_to: int = 0
    ) -> Iterator[tuple[int, av.Packet | None, list[av.VideoFrame]]]:
        """Yield ``(number, packet, pictures that came meanwhile)``; at the end without a packet.

        An error while reading ends the stream. What the decoder still holds comes out all the
        same.

        Args:
            start: where the reading begins; None: at the first packet.
            skip_to: number of the first packet that is decoded.

        Raises:
            NotThereError: the file does not lead to ``start``.
        """
        number = -1
        first = -1  # the number of the packet that the picture begins with
        try:
            for number, packet in self.packets(start):
                first = first if self.is_second_field else number
                if number >= skip_to and packet.size:  # an empty one would flush the decoder
                    packet.opaque = _Number(first, self.is_second_field)
                    yield number, packet, self._decode(packet)
        except av.FFmpegError:
            pass  # the scan has told of it
        yield number, None, self._decode(None)

    def packets(self, start: KeyFrame | None = None) -> Iterator[tuple[int, av.Packet]]:
        """Yield ``(number, packet)``; ``tick`` and ``is_second_field`` are the packet's.

        Raises:
            NotThereError: the file does not lead to ``start``.
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
        """Go to a key frame's packet."""
        try:
            self._container.seek(key.dts, stream=self._stream)
            for packet in islice(self._container.demux(self._stream), _MOST_READ):
                if packet.pts == key.tick and packet.size == key.size and packet.is_keyframe:
                    return packet
        except av.FFmpegError as error:
            raise NotThereError from error
        raise NotThereError

    def _decode(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        """Send a packet, or ask for what the decoder still holds."""
        try:
            return self._context.decode(packet)
        except av.FFmpegError:
            return []


def is_second_field(frame: av.VideoFrame) -> bool:
    """Whether the decoder gives a picture for the second field alone."""
    return isinstance(frame.opaque, _Number) and frame.opaque.is_second_field


def number_of(frame: av.VideoFrame) -> int | None:
    """The number of the packet that a picture came from; None: the decoder does not pass it on."""
    return frame.opaque.value if isinstance(frame.opaque, _Number) else None
