"""The newest frame of a live source, over broken connections as well."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.prefetch import Latest
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.http import origin_of, without_secrets
from queryinst_vis.video.live import Arrival, LiveReader

WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each attempt to open a broken network stream again."""


class LiveSource:
    """A source whose newest frame is always the next one; what came meanwhile is dropped.

    A network stream that breaks off is opened again, after ``WAITS``; an ``InputWarning`` tells of
    every attempt. Where none succeeds, the source ends and ``fault`` says why.

    Args:
        source: as for ``LiveReader``.
        selection: only ``max_frames`` may be set: frames that are looked at.
        name: None: that of the ``LiveReader``.

    Attributes:
        until: asked before every frame and while waiting for one; True ends the source.

    Raises:
        InputError: as for ``LiveReader``, or for another selection.
    """

    fps = None
    is_live = True
    pixel_aspect = Fraction(1)
    path = None

    def __init__(self, source: str | Path, selection: Selection, name: str | None = None) -> None:
        if selection != Selection(max_frames=selection.max_frames):
            raise InputError(
                "a live source shows its newest frame: leave out stride, start and end"
            )
        self.until: Callable[[], bool] = lambda: False
        self._arrivals = Reconnecting(source)
        self._newest: Latest[Arrival] | None = None
        self._max_frames = selection.max_frames
        self.name = name or self._arrivals.name
        self.origin = origin_of(source)

    @property
    def fault(self) -> str | None:
        """Why the source broke off."""
        return self._arrivals.fault

    @property
    def dropped(self) -> int:
        """Frames so far that came while an earlier one was looked at, and were left out."""
        return 0 if self._newest is None else self._newest.dropped

    def __len__(self) -> int:
        raise TypeError("a live source has no length")

    def frames(self) -> Iterator[Frame]:
        """The frames that are looked at, numbered from 0.

        Their ``seconds`` are those of their arrival, on the clock of ``time.perf_counter``.
        """
        self._newest = newest = Latest(self._arrivals, self.until)
        for number, arrival in enumerate(islice(newest, self._max_frames)):
            yield Frame(number, arrival.seconds, arrival.rgb())


class Reconnecting:
    """The frames of a ``LiveReader`` that is opened again where its connection breaks.

    A source that has an end of its own, such as a file, is read once.

    Attributes:
        name: as of ``LiveReader``.
        fault: why the source broke off and could not be opened again; None: it did not.

    Raises:
        InputError: as for ``LiveReader``.
    """

    def __init__(self, source: str | Path) -> None:
        self.fault: str | None = None
        self._source = source
        self._reader = LiveReader(source)
        self.name = self._reader.name

    def __iter__(self) -> Iterator[Arrival]:
        yield from self._reader
        tried = 0
        while self._reader.fault and self._reader.is_endless and tried < len(WAITS):
            self._wait(tried)
            tried += 1
            try:
                reader = LiveReader(self._source)
                # The first connection decides about size and colours: files have one size.
                reader.convert = self._reader.convert
                self._reader = reader
                for arrival in reader:
                    tried = 0
                    yield arrival
            except InputError as error:  # no connection, or no frame came
                self._reader.fault = self._reader.fault or str(error)
        self.fault = self._reader.fault

    def _wait(self, tried: int) -> None:
        warnings.warn(
            f"{without_secrets(str(self._source))} broke off ({self._reader.fault}); opening it "
            f"again in {WAITS[tried]:g} s (attempt {tried + 1} of {len(WAITS)})",
            InputWarning,
            stacklevel=2,
        )
        time.sleep(WAITS[tried])
