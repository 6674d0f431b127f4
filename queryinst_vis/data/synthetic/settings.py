"""How many synthetic videos of which kind; the named presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from queryinst_vis.errors import InputError

_MIN_SIDE, _MAX_SIDE = 32, 16384  # a shape needs some pixels; H.264 ends at 16384
_MAX_OBJECTS = 32767  # what the renderer's 16-bit map of owners tells apart
_MIN_DIAMETER = 12  # pixels; a smaller star would hardly count as visible


@dataclass(frozen=True)
class SyntheticSettings:
    """The distribution from which synthetic videos are drawn.

    Attributes:
        videos: number of videos.
        frames: frames per video.
        width, height: of a frame, in pixels.
        min_objects, max_objects: annotated objects per video, both included.
        diameter: smallest and largest object, over the frame's shorter side.
        speed: slowest and fastest drift per frame, over the frame's shorter side.
        meeting: probability that an object's path is made to cross that of another one.
        fps: frames per second of the optional video files.

    Raises:
        InputError: a value that no video can have.
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
        """The frame's shorter side in pixels; sizes and speeds are relative to it."""
        return min(self.width, self.height)

    def override(
        self,
        *,
        videos: int | None = None,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        objects: tuple[int, int] | None = None,
    ) -> SyntheticSettings:
        """The same kind of videos in other numbers; None keeps what there is.

        More objects are smaller, to cover as much of the frame together, and fewer of them are
        made to meet, for they would pile up; so that all can be seen.

        Args:
            videos: number of videos.
            frames: frames per video.
            size: ``(width, height)`` in pixels.
            objects: fewest and most objects per video.

        Raises:
            InputError: a value that no video can have.
        """
        width, height = size or (self.width, self.height)
        fewest, most = objects or (self.min_objects, self.max_objects)
        changed = replace(
            self,
            videos=self.videos if videos is None else videos,
            frames=self.frames if frames is None else frames,
            width=width,
            height=height,
            min_objects=fewest,
            max_objects=most,
        )
        share = min(1.0, self.max_objects / most)
        smallest = _MIN_DIAMETER / changed.short_side
        low, high = (min(side, max(math.sqrt(share) * side, smallest)) for side in self.diameter)
        return replace(changed, diameter=(low, high), meeting=share * self.meeting)


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
