"""What a set of synthetic videos contains."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from queryinst_vis.data.synthetic.render import MIN_VISIBLE_PIXELS
from queryinst_vis.data.synthetic.shapes import CLASS_NAMES

COVERED_SHARE = 0.05
"""An object counts as partly covered when others hide this share of its pixels in the frame."""


@dataclass
class SyntheticStatistics:
    """Counted while the videos are written; ``str`` is the report that the user reads.

    An object-frame is one object in one frame that shows it.

    Attributes:
        videos, frames, width, height: number of videos, and of what length and size.
        objects_per_class: number of objects by class name.
        objects_per_video: number of objects of each video.
        object_frames: number of object-frames.
        covered_object_frames: those in which another object covers part of the object.
        entries, exits: objects that their video's first, last frame does not show.
        total_area: visible pixels of all object-frames.
    """

    videos: int
    frames: int
    width: int
    height: int
    objects_per_class: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASS_NAMES, 0))
    objects_per_video: list[int] = field(default_factory=list)
    object_frames: int = 0
    covered_object_frames: int = 0
    entries: int = 0
    exits: int = 0
    total_area: int = 0

    @property
    def covered_share(self) -> float:
        """Share of the object-frames in which another object covers part of the object."""
        return self.covered_object_frames / self.object_frames

    @property
    def mean_area(self) -> float:
        """Visible pixels per object-frame."""
        return self.total_area / self.object_frames

    def count(self, labels: list[int], visible: np.ndarray, extent: np.ndarray) -> None:
        """Add one video.

        Args:
            labels: class index of each of its N objects.
            visible: ``(T, N)`` pixels that each frame shows of each object.
            extent: ``(T, N)`` pixels that it would show if nothing were before the object.
        """
        shown = visible >= MIN_VISIBLE_PIXELS
        for label in labels:
            self.objects_per_class[CLASS_NAMES[label]] += 1
        self.objects_per_video.append(len(labels))
        self.object_frames += int(shown.sum())
        self.covered_object_frames += int((shown & (visible <= (1 - COVERED_SHARE) * extent)).sum())
        self.entries += int((~shown[0]).sum())
        self.exits += int((~shown[-1]).sum())
        self.total_area += int(visible[shown].sum())

    def __str__(self) -> str:
        classes = ", ".join(f"{name} {count}" for name, count in self.objects_per_class.items())
        return "\n".join(
            [
                f"videos              {self.videos} of {self.frames} frames, "
                f"{self.width}x{self.height} pixels",
                f"objects             {sum(self.objects_per_video)} ({classes})",
                f"objects per video   {min(self.objects_per_video)} to "
                f"{max(self.objects_per_video)}",
                f"object-frames       {self.object_frames}, {self.covered_share:.1%} partly "
                "covered by another object",
                f"entries, exits      {self.entries}, {self.exits}",
                f"mean visible area   {self.mean_area:.0f} pixels",
            ]
        )
