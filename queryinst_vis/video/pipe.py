"""What another program writes into a pipe, frame after frame, none of them dropped."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from queryinst_vis.errors import InputError
from queryinst_vis.video.frames import Frame, Selection
from queryinst_vis.video.live import Arrival, LiveReader

STDIN = "-"
"""Names the standard input."""

STDIN_PATH = Path("/dev/stdin")
_HINT = "an MP4 or MOV file whose index is at its end cannot be read from a pipe: save it first"
_STEP = 1 / 25  # seconds from frame to frame where the stream does not say


class PipeSource:
    """The frames of a pipe, in order; the program that writes waits while they are looked at.

    Frames that cannot be decoded are left out: nobody can tell beforehand what should come.

    Args:
        path: of the pipe.
        name: suits a file name.
        selection: which frames.

    Raises:
        InputError: no video comes.
    """

    fps = None
    is_live = False
    path = None
    pixel_aspect = Fraction(1)

    def __init__(self, path: Path, name: str, selection: Selection) -> None:
        if path == STDIN_PATH and path.is_char_device():
            raise InputError(f"{STDIN}: nothing is piped in: ffmpeg ... -f mpegts - | ...")
        try:
            self._reader = LiveReader(path)
        except InputError as error:
            raise InputError(f"{error}; {_HINT}") from error
        self._selection = selection
        self.name = name
        self.origin = f"pipe {path}"

    @property
    def fault(self) -> str | None:
        """Why the stream broke off."""
        return self._reader.fault

    def __len__(self) -> int:
        raise TypeError("a pipe has no length")

    def frames(self) -> Iterator[Frame]:
        """The frames with their times, once.

        Raises:
            InputError: no frame comes, or none of the selection.
        """
        number = -1
        for number, seconds, arrival in self._selection.select(self._timed()):
            yield Frame(number, seconds, arrival.rgb())
        if number < 0:
            raise InputError(f"{self.origin}: it ended before the first frame of the range")

    def _timed(self) -> Iterator[_Timed]:
        seconds: float | None = None
        for number, arrival in enumerate(self._arrivals()):
            claimed = arrival.picture.time
            if seconds is None:
                seconds = claimed or 0.0
            else:
                seconds = claimed if claimed and claimed > seconds else seconds + _STEP
            yield _Timed(number, seconds, arrival)

    def _arrivals(self) -> Iterator[Arrival]:
        try:
            yield from self._reader
        except InputError as error:  # not one came
            raise InputError(f"{error}; {_HINT}") from error


class _Timed(NamedTuple):
    number: int
    seconds: float
    arrival: Arrival
