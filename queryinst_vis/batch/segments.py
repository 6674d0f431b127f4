"""Where a long video is cut, so that several workers can track it. It loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from queryinst_vis.errors import InputError


@dataclass(frozen=True)
class Cutting:
    """How long videos are cut.

    Attributes:
        length: seconds; longer videos are cut, and a segment is no longer than this wherever key
            frames allow it.
        overlap: seconds that a segment tracks together with the one after it.

    Raises:
        InputError: there is no overlap, or a segment has room for little else.
    """

    length: float
    overlap: float

    def __post_init__(self) -> None:
        if self.overlap <= 0:
            raise InputError("--segment-overlap: must be above 0: identities are joined there")
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
        first: number of the first frame that is tracked: a key frame.
        owned: the first frame whose results are this segment's; those before, which the segment
            before has tracked as well, fill the memory and tell how identities are joined.
        shared: the first frame that the segment after tracks, too; ``stop`` in the last segment.
        stop: the frame to stop before.
        seconds: of video between its own first frame and that of the segment after.
    """

    index: int
    first: int
    owned: int
    shared: int
    stop: int
    seconds: float


@dataclass(frozen=True)
class Cut:
    """A video in segments.

    Attributes:
        segments: at least two.
        bytes, sha256: of the file or the images.
    """

    segments: tuple[Segment, ...]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """What a worker is to do with a video that has been cut.

    Attributes:
        cut: the segments.
        index: the one to track; None: join the identities of all, which have been tracked.
    """

    cut: Cut
    index: int | None = None

    @property
    def segment(self) -> Segment | None:
        """The one to track."""
        return None if self.index is None else self.cut.segments[self.index]

    def __str__(self) -> str:
        count = len(self.cut.segments)
        return f"segment {self.index + 1} of {count}" if self.index is not None else "joining"


def cut_video(
    seconds: np.ndarray, numbers: range, key_frames: Sequence[int], cutting: Cutting
) -> tuple[Segment, ...]:
    """The segments of a video: one where it is short, or has no key frame at which it can be cut.

    A segment begins at the last key frame with which the segment before, up to the end of their
    overlap, is no longer than asked for; where there is none, at the next one after that. No frame
    is in more than two segments.

    Args:
        seconds: ``(F,)`` increasing time of each frame of the video.
        numbers: the frames to track.
        key_frames: numbers of frames at which decoding can begin, ascending.
        cutting: how long.
    """
    times = seconds[numbers.start : numbers.stop : numbers.step]
    places = -(-(np.asarray(key_frames, np.int64) - numbers.start) // numbers.step)
    places = np.unique(places[(places > 0) & (places < len(times))])
    overlap, end = cutting.overlap, times[-1]
    begins = [0]
    while end - times[begins[-1]] > cutting.length:
        here = times[begins[-1]]
        usable = places[(times[places] >= here + overlap) & (times[places] < end - overlap)]
        if not len(usable):
            break
        in_time = usable[times[usable] <= here + cutting.length - overlap]
        begins.append(int(in_time[-1] if len(in_time) else usable[0]))
    later = begins[1:]
    owned = [0, *(int(np.searchsorted(times, times[begin] + overlap)) for begin in later)]
    borders = [*times[owned], end]
    return tuple(
        Segment(
            index,
            first=numbers[begin],
            owned=numbers[owned[index]],
            shared=numbers[later[index]] if index < len(later) else numbers[-1] + 1,
            stop=numbers[owned[index + 1] - 1] + 1 if index < len(later) else numbers[-1] + 1,
            seconds=float(borders[index + 1] - borders[index]),
        )
        for index, begin in enumerate(begins)
    )
