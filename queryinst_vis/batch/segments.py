"""Cuts long videos into segments that workers track in parallel; does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from queryinst_vis.errors import InputError


@dataclass(frozen=True)
class Cutting:
    """How to cut long videos into segments.

    Attributes:
        length: maximum length of a segment in seconds, where key frames allow it; longer videos
            are cut.
        overlap: seconds that consecutive segments have in common.

    Raises:
        InputError: the overlap is not positive, or not below half the length.
    """

    length: float
    overlap: float

    def __post_init__(self) -> None:
        if self.overlap <= 0:
            raise InputError("--segment-overlap: must be above 0: tracks are matched there")
        if self.length <= 2 * self.overlap:
            raise InputError(
                f"--segment: {self.length:g} s must be more than twice --segment-overlap, which is "
                f"{self.overlap:g} s"
            )


@dataclass(frozen=True)
class Segment:
    """Frames of a video that one worker tracks; ``first <= owned <= shared <= stop``.

    Attributes:
        index: of the segment, from 0.
        first: number of the first frame to track, a key frame.
        owned: first frame whose results come from this segment. The frames before it also belong
            to the previous segment: they fill the tracker's memory and match the tracks of both.
        shared: first frame of the overlap with the next segment; ``stop`` in the last segment.
        stop: the frame to stop before.
        seconds: from this segment's ``owned`` frame to that of the next.
    """

    index: int
    first: int
    owned: int
    shared: int
    stop: int
    seconds: float

    def is_shared(self, frame: int) -> bool:
        """Whether a frame of this segment lies in the overlap with a neighbouring segment."""
        return frame < self.owned or frame >= self.shared


@dataclass(frozen=True)
class Cut:
    """The segments of a video.

    Attributes:
        segments: at least two.
        bytes, sha256: size and checksum of the file, or of all images.
    """

    segments: tuple[Segment, ...]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """One work item of a video that has been cut.

    Attributes:
        cut: the segments.
        index: the segment to track; None: join the segments, all of which have been tracked.
    """

    cut: Cut
    index: int | None = None

    @property
    def segment(self) -> Segment | None:
        """The segment to track."""
        return None if self.index is None else self.cut.segments[self.index]

    def __str__(self) -> str:
        count = len(self.cut.segments)
        return f"segment {self.index + 1} of {count}" if self.index is not None else "joining"


def cut_video(
    seconds: np.ndarray, numbers: range, key_frames: Sequence[int], cutting: Cutting
) -> tuple[Segment, ...]:
    """The segments of a video: only one if it is short or lacks a key frame to cut it at.

    A segment begins at the last key frame that keeps the previous segment, including their
    overlap, within ``cutting.length``; without such a key frame, at the next one. No frame is in
    more than two segments.

    Args:
        seconds: ``(F,)`` time of each frame of the video, increasing.
        numbers: the frames to track.
        key_frames: numbers of the frames at which decoding can begin, ascending.
        cutting: length and overlap of the segments.
    """
    times = seconds[numbers.start : numbers.stop : numbers.step]
    # the first tracked frame at or after each key frame
    candidates = -(-(np.asarray(key_frames, np.int64) - numbers.start) // numbers.step)
    candidates = np.unique(candidates[(candidates > 0) & (candidates < len(times))])
    begins = _begins(times, candidates, cutting)
    later = begins[1:]
    owned = [0, *(int(np.searchsorted(times, times[begin] + cutting.overlap)) for begin in later)]
    boundaries = [*times[owned], times[-1]]
    return tuple(
        Segment(
            index,
            first=numbers[begin],
            owned=numbers[owned[index]],
            shared=numbers[later[index]] if index < len(later) else numbers[-1] + 1,
            stop=numbers[owned[index + 1] - 1] + 1 if index < len(later) else numbers[-1] + 1,
            seconds=float(boundaries[index + 1] - boundaries[index]),
        )
        for index, begin in enumerate(begins)
    )


def _begins(times: np.ndarray, candidates: np.ndarray, cutting: Cutting) -> list[int]:
    """The index in ``times`` of the first frame of each segment, one of ``candidates`` or 0."""
    begins, end = [0], times[-1]
    at = times[candidates]
    while end - times[begins[-1]] > cutting.length:
        start = times[begins[-1]]
        usable = (at >= start + cutting.overlap) & (at < end - cutting.overlap)
        if not usable.any():
            break
        in_length = usable & (at <= start + cutting.length - cutting.overlap)
        begins.append(int(candidates[in_length][-1] if in_length.any() else candidates[usable][0]))
    return begins
