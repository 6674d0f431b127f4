"""Frames of a source, and the selection of frames."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from queryinst_vis.errors import InputError, InputWarning

_NAMED = 10  # maximum runs of frame numbers in a warning
_ROUNDING = 1e-6  # tolerance of time bounds in seconds
_CLOCK = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:\.\d*)?|\.\d+)")
_WITH_UNIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|sec|min|m|h)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600}  # seconds, by the first letter


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: frame number, from 0, as in a player.
        seconds: its time, increasing. None: unknown (never for files).
        image: ``(H, W, 3)`` uint8 RGB, upright.
        is_damaged: it could not be decoded; ``image`` is the last good frame, or black.
    """

    number: int
    seconds: float | None
    image: np.ndarray
    is_damaged: bool = False


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...

    @property
    def seconds(self) -> float | None: ...


Numbered = TypeVar("Numbered", bound=_Numbered)
"""A frame, decoded or not yet."""


class DamagedFramesWarning(InputWarning):
    """Some frames could not be decoded.

    Args:
        source: describes the source, at the beginning of the message.
        numbers: of the damaged frames, ascending.
        length: number of frames of the source.
        note: says what replaces the damaged frames.
    """

    def __init__(self, source: str, numbers: list[int], length: int, note: str) -> None:
        super().__init__(source, numbers, length, note)
        self.source, self.numbers, self.length, self.note = source, numbers, length, note

    def __str__(self) -> str:
        damaged = f"{name_runs(self.numbers)} ({len(self.numbers)} of {self.length})"
        return f"{self.source}: {damaged} cannot be decoded; {self.note}"


@dataclass(frozen=True)
class Selection:
    """A selection of frames.

    A frame is selected if it satisfies all bounds. Times are relative to the first frame of the
    source, as in a player, regardless of its timestamp.

    Attributes:
        start: seconds; the first frame at this time or later.
        end: seconds, exclusive.
        start_frame: number of the first frame, from 0, as in a player.
        end_frame: frame number, exclusive.
        stride: every N-th frame, starting with the first one of the range.
        max_frames: maximum number of frames; None: all.

    Raises:
        InputError: a bound is negative or not a number, a range is empty, or ``stride`` or
            ``max_frames`` is below 1.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    stride: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("max_frames", 1), ("start_frame", 0), ("start", 0)):
            value = getattr(self, name)
            if value is not None and not (value >= least and math.isfinite(value)):
                raise InputError(f"{name} must be {least} or more, got {value}")
        for name, first, last in (
            ("end", self.start or 0, self.end),
            ("end_frame", self.start_frame or 0, self.end_frame),
        ):
            if last is not None and not last > first:
                raise InputError(f"{name} must be above {first}, the start, got {last}")

    def numbers(self, seconds: np.ndarray) -> range:
        """The selected frames of a source with known times.

        Args:
            seconds: ``(N,)`` increasing times.
        """
        shown = seconds - seconds[0] if len(seconds) else seconds
        first, stop = self.start_frame or 0, len(seconds)
        if self.end_frame is not None:
            stop = min(stop, self.end_frame)
        if self.start is not None:
            first = max(first, int(np.searchsorted(shown, self.start - _ROUNDING)))
        if self.end is not None:
            stop = min(stop, int(np.searchsorted(shown, self.end - _ROUNDING)))
        return range(first, stop, self.stride)[: self.max_frames]

    def select(self, frames: Iterable[Numbered]) -> Iterator[Numbered]:
        """The selected frames of a source, which is read only as far as necessary."""
        stop = None if self.max_frames is None else (self.max_frames - 1) * self.stride + 1
        return islice(self.in_range(frames), 0, stop, self.stride)

    def in_range(self, frames: Iterable[Numbered], zero: float | None = None) -> Iterator[Numbered]:
        """Like ``select``, but without stride and ``max_frames``.

        Args:
            frames: of the source, possibly starting later.
            zero: the time of the source's first frame; None: that of the first one given.
        """
        for frame in frames:
            zero = frame.seconds if zero is None else zero
            shown = None if frame.seconds is None or zero is None else frame.seconds - zero
            if self._is_past(frame.number, shown):
                return
            if not self._is_before(frame.number, shown):
                yield frame

    def misses(self, seconds: np.ndarray) -> str:
        """Error message for a source that is shorter than the range; arguments as ``numbers``."""
        asked = [
            f"{name} {value}"
            for name in ("start", "end", "start_frame", "end_frame")
            if (value := getattr(self, name)) is not None
        ]
        last = seconds[-1] - seconds[0] if len(seconds) else 0.0
        return (
            f"the range contains no frame ({', '.join(asked)}); it has {len(seconds)} frames, the "
            f"last one at {last:.3f} s"
        )

    def _is_before(self, number: int, shown: float | None) -> bool:
        if self.start_frame is not None and number < self.start_frame:
            return True
        return self.start is not None and shown is not None and shown < self.start - _ROUNDING

    def _is_past(self, number: int, shown: float | None) -> bool:
        if self.end_frame is not None and number >= self.end_frame:
            return True
        return self.end is not None and shown is not None and shown >= self.end - _ROUNDING


ALL_FRAMES = Selection()


def parse_time(text: str) -> float:
    """Parse ``"90"``, ``"90s"``, ``"1.5min"``, ``"1h"``, ``"1:30"`` or ``"0:01:30.5"`` to seconds.

    Raises:
        ValueError: invalid format.
    """
    if match := _WITH_UNIT.fullmatch(text.strip()):
        return float(match[1]) * _UNITS[match[2][0].lower()]
    match = _CLOCK.fullmatch(text.strip())
    if match is None or (match[2] is not None and float(match[3]) >= 60):
        raise ValueError(f"expected a time such as 90, 90s, 10min, 1h or 0:01:30.5, got '{text}'")
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def name_runs(numbers: list[int]) -> str:
    """Ascending frame numbers as text: ``frame 7`` or ``frames 3, 5-8 and others``."""
    runs = []
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}")
    named = ", ".join(runs[:_NAMED]) + (" and others" if len(runs) > _NAMED else "")
    return f"{'frame' if len(numbers) == 1 else 'frames'} {named}"
