"""Statistics of a set of synthetic videos."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from queryinst_vis.data.synthetic.render import MIN_VISIBLE_PIXELS
from queryinst_vis.data.synthetic.shapes import CLASS_NAMES

COVERED_SHARE = 0.05
"""An object counts as occluded if at least this fraction of its pixels in the frame is covered."""


@dataclass
class SyntheticStatistics:
    """Statistics, accumulated while videos are written; ``str`` is the report for the user.

    An object-frame is a visible object in one frame.

    Attributes:
        videos, frames, width, height: number, length and size of the videos.
        objects_per_class: number of objects by class name.
        objects_per_video: number of objects of each video.
        object_frames: number of object-frames.
        covered_object_frames: number of object-frames in which the object is partly occluded.
        entries, exits: number of objects absent from the first and from the last frame.
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
        """Fraction of object-frames in which the object is partly occluded."""
        return self.covered_object_frames / self.object_frames

    @property
    def mean_area(self) -> float:
        """Visible pixels per object-frame."""
        return self.total_area / self.object_frames

    def count(self, labels: list[int], visible: np.ndarray, extent: np.ndarray) -> None:
        """Add one video.

        Args:
            labels: class index of each of its N objects.
            visible: ``(T, N)`` visible pixels of each object.
            extent: ``(T, N)`` pixels of each object without occlusion.
        """
        present = visible >= MIN_VISIBLE_PIXELS
        for label in labels:
            self.objects_per_class[CLASS_NAMES[label]] += 1
        self.objects_per_video.append(len(labels))
        occluded = present & (visible <= (1 - COVERED_SHARE) * extent)
        self.object_frames += int(present.sum())
        self.covered_object_frames += int(occluded.sum())
        self.entries += int((~present[0]).sum())
        self.exits += int((~present[-1]).sum())
        self.total_area += int(visible[present].sum())

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
                "occluded",
                f"entries, exits      {self.entries}, {self.exits}",
                f"mean visible area   {self.mean_area:.0f} pixels",
            ]
        )
