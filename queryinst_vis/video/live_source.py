"""The newest frames of a live source, with reconnection."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.prefetch import Latest, PolledLatest
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.http import origin_of, without_secrets
from queryinst_vis.video.live import SYSTEM_CLOCK, Arrival, Clock, LiveReader

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each attempt to reopen a broken network stream."""


class LiveSource:
    """A source that always yields the newest frame and drops those that arrived in between.

    A network stream that fails is reopened after ``WAITS``, with an ``InputWarning`` for
    every attempt. If all attempts fail, the source ends and ``fault`` gives the reason.

    Args:
        source: as for ``LiveReader``.
        selection: only ``max_frames`` may be set (number of processed frames).
        name: None: that of the ``LiveReader``.
        clock: times arrivals, and sets the pace at which recordings are played.

    Attributes:
        until: called before every frame and while waiting for one; True ends the source.

    Raises:
        InputError: as for ``LiveReader``, or for another selection.
    """

    fps = None
    is_live = True
    path = None

    def __init__(
        self,
        source: str | Path,
        selection: Selection,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if selection != Selection(max_frames=selection.max_frames):
            raise InputError(
                "a live source yields only its newest frame: leave out stride, start and end"
            )
        self.until: Callable[[], bool] = lambda: False
        self.clock = clock
        self._arrivals = Reconnecting(source, clock)
        self._newest: Latest[Arrival] | PolledLatest[Arrival] | None = None
        self._max_frames = selection.max_frames
        self.name = name or self._arrivals.name
        self.origin = origin_of(source)

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width / height."""
        return self._arrivals.pixel_aspect

    @property
    def fault(self) -> str | None:
        """Why the source ended unexpectedly."""
        return self._arrivals.fault

    @property
    def dropped(self) -> int:
        """Number of frames dropped so far."""
        return 0 if self._newest is None else self._newest.dropped

    def __len__(self) -> int:
        raise TypeError("a live source has no length")

    def frames(self) -> Iterator[Frame]:
        """The processed frames, numbered from 0.

        Their ``seconds`` are times of arrival, on ``clock``.
        """
        self._newest = newest = Latest(self._arrivals, self.until)
        for number, arrival in enumerate(islice(newest, self._max_frames)):
            yield Frame(number, arrival.seconds, arrival.rgb())

    def feed(self) -> LiveFeed:
        """The frames of ``frames``, for a consumer that never waits."""
        self._newest = newest = PolledLatest(self._arrivals)
        return LiveFeed(newest, self.until, self._max_frames)


class LiveFeed:
    """Polls for the frame that is the newest at that time (``side_by_side.Feed``).

    Args:
        arrivals: of the source.
        until: True ends the source.
        max_frames: None: all.

    Attributes:
        ended: no further frame will come.
    """

    def __init__(
        self, arrivals: PolledLatest[Arrival], until: Callable[[], bool], max_frames: int | None
    ) -> None:
        self.ended = False
        self._arrivals, self._until, self._max_frames = arrivals, until, max_frames
        self._count = 0

    def poll(self) -> Frame | None:
        """The newest frame, if one arrived since the last poll. Raises the error of the source."""
        if self.ended:
            return None
        if self._until() or self._count == self._max_frames:
            self.close()
            return None
        arrival = self._arrivals.poll()
        self.ended = self._arrivals.ended
        if arrival is None:
            return None
        self._count += 1
        return Frame(self._count - 1, arrival.seconds, arrival.rgb())

    def close(self) -> None:
        """Stop reading."""
        self.ended = True
        self._arrivals.close()


class Reconnecting:
    """The frames of a ``LiveReader`` that is reopened if its connection breaks.

    A source with a defined end, such as a file, is read once.

    Attributes:
        name: as of ``LiveReader``.
        fault: why the source failed and could not be reopened; None if it did not.

    Raises:
        InputError: as for ``LiveReader``.
    """

    def __init__(self, source: str | Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.fault: str | None = None
        self._source = source
        self._clock = clock
        self._reader = LiveReader(source, clock)
        self.name = self._reader.name

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width / height."""
        return self._reader.pixel_aspect

    def __iter__(self) -> Iterator[Arrival]:
        yield from self._reader
        tried = 0
        while self._reader.fault and self._reader.is_endless and tried < len(WAITS):
            self._wait(tried)
            tried += 1
            try:
                reader = LiveReader(self._source, self._clock)
                # the first connection determines size and colours: output files have one size
                reader.convert = self._reader.convert
                self._reader = reader
                for arrival in reader:
                    tried = 0
                    yield arrival
            except InputError as error:  # no connection, or no frame
                self._reader.fault = self._reader.fault or str(error)
        self.fault = self._reader.fault

    def _wait(self, tried: int) -> None:
        warnings.warn(
            f"{without_secrets(str(self._source))} failed ({self._reader.fault}); reconnecting "
            f"in {WAITS[tried]:g} s (attempt {tried + 1} of {len(WAITS)})",
            InputWarning,
            stacklevel=2,
        )
        self._clock.wait_until(self._clock.now() + WAITS[tried])
