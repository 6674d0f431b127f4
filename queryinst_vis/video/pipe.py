"""Reading a video from a pipe, without dropping frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.live import Arrival, LiveReader
from queryinst_vis.video.scan import DISCONTINUITY

STDIN = "-"
"""Name of standard input."""

STDIN_PATH = Path("/dev/stdin")
_HINT = "an MP4 or MOV file whose index is at its end cannot be read from a pipe: save it first"
_STEP = 1 / 25  # default frame interval in seconds


class PipeSource:
    """The frames of a pipe, in order; the writing program waits while they are processed.

    Frames that cannot be decoded are skipped, since the expected frames are unknown; a warning says
    how many packets were lost.

    Args:
        path: of the pipe.
        name: valid as a file name.
        selection: the selected frames.

    Raises:
        InputError: the pipe contains no video.
    """

    fps = None
    is_live = False
    path = None

    def __init__(self, path: Path, name: str, selection: Selection) -> None:
        if path == STDIN_PATH and path.is_char_device():
            raise InputError(
                f"{STDIN}: nothing is piped to standard input: ffmpeg ... -f mpegts - | ..."
            )
        try:
            self._reader = LiveReader(path)
        except InputError as error:
            raise InputError(f"{error}; {_HINT}") from error
        self._selection = selection
        self.name = name
        self.origin = f"pipe {path}"

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width / height."""
        return self._reader.pixel_aspect

    @property
    def fault(self) -> str | None:
        """Why the stream ended unexpectedly."""
        return self._reader.fault

    def __len__(self) -> int:
        raise TypeError("a pipe has no length")

    def frames(self) -> Iterator[Frame]:
        """The frames with their times; can be iterated once.

        Raises:
            InputError: no frame, or none in the selection.
        """
        number = -1
        for number, seconds, arrival in self._selection.select(self._timed()):
            yield Frame(number, seconds, arrival.rgb())
        if number < 0:
            raise InputError(f"{self.origin}: it ended before the first frame of the range")

    def _timed(self) -> Iterator[_Timed]:
        clock = _Clock()
        for number, arrival in enumerate(self._arrivals()):
            yield _Timed(number, clock.next(arrival.picture.time), arrival)
        if self._reader.undecodable:
            warnings.warn(
                f"{self.origin}: {self._reader.undecodable} packets could not be decoded; their "
                "frames are missing, and those after them are numbered as if these did not exist",
                InputWarning,
                stacklevel=2,
            )

    def _arrivals(self) -> Iterator[Arrival]:
        try:
            yield from self._reader
        except InputError as error:  # no frame at all
            raise InputError(f"{error}; {_HINT}") from error


class _Clock:
    """Ascending times, also without time stamps or if the clock of the stream restarts."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._shift = 0.0
        self._step = _STEP

    def next(self, stamp: float | None) -> float:
        """The time of the next frame, given its time stamp in seconds, if it has one."""
        if self._last is None:
            self._last = stamp or 0.0
            return self._last
        if stamp is None:
            time = self._last + self._step
        elif stamp + self._shift > self._last:
            time = stamp + self._shift
            self._step = time - self._last
        else:
            time = self._last + self._step
            if stamp + self._shift < self._last - DISCONTINUITY:
                self._shift = time - stamp  # the clock of the stream goes on from here
        self._last = time
        return time


class _Timed(NamedTuple):
    number: int
    seconds: float
    arrival: Arrival
