"""How many synthetic videos of which kind; the named presets."""

from __future__ import annotations

from dataclasses import dataclass

from queryinst_vis.errors import InputError


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
    fps: float = 10.0

    def __post_init__(self) -> None:
        if min(self.videos, self.frames) < 1:
            raise InputError("synthetic data: videos and frames must be at least 1")
        if self.short_side < 32:
            raise InputError(
                f"synthetic data: frames of {self.width}x{self.height} pixels are too small; "
                "width and height must be at least 32"
            )
        if not 1 <= self.min_objects <= self.max_objects <= 254:
            raise InputError(
                f"synthetic data: {self.min_objects} to {self.max_objects} objects per video; "
                "expected 1 <= min_objects <= max_objects <= 254"
            )
        for name, (low, high) in {"diameter": self.diameter, "speed": self.speed}.items():
            if not 0 < low <= high <= 2:
                raise InputError(f"synthetic data: {name} {low}..{high} is not within 0..2")

    @property
    def short_side(self) -> int:
        """The frame's shorter side in pixels; sizes and speeds are relative to it."""
        return min(self.width, self.height)


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
"""``train`` to learn from, ``bench`` the yardstick (seed 2026), ``demo`` one clip to look at."""
