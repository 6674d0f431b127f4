"""Settings and presets of synthetic data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from queryinst_vis.errors import InputError

_MIN_SIDE, _MAX_SIDE = 32, 16384  # in pixels; 16384 is the limit of H.264
_MAX_OBJECTS = 32767  # limit of the renderer's int16 instance map
_MIN_DIAMETER = 12  # pixels; smaller stars would have too few visible pixels


@dataclass(frozen=True)
class SyntheticSettings:
    """The distribution of synthetic videos.

    Attributes:
        videos: number of videos.
        frames: frames per video.
        width, height: frame size in pixels.
        min_objects, max_objects: minimum and maximum number of objects per video.
        diameter: minimum and maximum diameter of objects, as a fraction of the shorter frame side.
        speed: minimum and maximum speed per frame, as a fraction of the shorter frame side.
        meeting: probability that the path of an object crosses that of another one.
        fps: frames per second of the optional video files.

    Raises:
        InputError: a value is out of range.
    """

    videos: int = 400
    frames: int = 10
    width: int = 256
    height: int = 160
    min_objects: int = 2
    max_objects: int = 6
    diameter: tuple[float, float] = (0.22, 0.55)
    speed: tuple[float, float] = (0.005, 0.03)
    meeting: float = 0.85
    fps: float = 10.0

    def __post_init__(self) -> None:
        if min(self.videos, self.frames) < 1:
            raise InputError("synthetic data: videos and frames must be at least 1")
        if not _MIN_SIDE <= self.short_side <= max(self.width, self.height) <= _MAX_SIDE:
            raise InputError(
                f"synthetic data: frames of {self.width}x{self.height} pixels; width and height "
                f"must be {_MIN_SIDE} to {_MAX_SIDE}"
            )
        if not 1 <= self.min_objects <= self.max_objects <= _MAX_OBJECTS:
            raise InputError(
                f"synthetic data: {self.min_objects} to {self.max_objects} objects per video; "
                f"expected 1 <= min_objects <= max_objects <= {_MAX_OBJECTS}"
            )
        for name, (low, high) in {"diameter": self.diameter, "speed": self.speed}.items():
            if not 0 < low <= high <= 2:
                raise InputError(f"synthetic data: {name} {low}..{high} is not within 0..2")
        if not 0 <= self.meeting <= 1:
            raise InputError(f"synthetic data: meeting {self.meeting:g} is not within 0..1")
        if not self.fps > 0:
            raise InputError(f"synthetic data: {self.fps:g} frames per second; must be above 0")

    @property
    def short_side(self) -> int:
        """The shorter frame side in pixels, the unit of diameter and speed."""
        return min(self.width, self.height)

    def override(
        self,
        *,
        videos: int | None = None,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        objects: tuple[int, int] | None = None,
    ) -> SyntheticSettings:
        """A copy with other values; None keeps a value.

        If there are more objects, their diameter and the probability of meetings are reduced, so
        that all of them can be visible.

        Args:
            videos: number of videos.
            frames: frames per video.
            size: ``(width, height)`` in pixels.
            objects: minimum and maximum number of objects per video.

        Raises:
            InputError: a value is out of range.
        """
        width, height = size or (self.width, self.height)
        min_objects, max_objects = objects or (self.min_objects, self.max_objects)
        changed = replace(
            self,
            videos=self.videos if videos is None else videos,
            frames=self.frames if frames is None else frames,
            width=width,
            height=height,
            min_objects=min_objects,
            max_objects=max_objects,
        )
        ratio = min(1.0, self.max_objects / max_objects)
        smallest = _MIN_DIAMETER / changed.short_side
        low, high = (min(side, max(math.sqrt(ratio) * side, smallest)) for side in self.diameter)
        return replace(changed, diameter=(low, high), meeting=ratio * self.meeting)


PRESETS = {
    "train": SyntheticSettings(),
    "bench": SyntheticSettings(videos=20, frames=20),
    "demo": SyntheticSettings(
        videos=1,
        frames=60,
        width=384,
        height=240,
        min_objects=5,
        max_objects=5,
        speed=(0.002, 0.012),
        fps=24.0,
    ),
}
"""``train`` for training, ``bench`` for evaluation (seed 2026), ``demo`` a single clip."""
