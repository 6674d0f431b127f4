"""Everything that ``evaluation`` says of a result file, gathered for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.confidence import SAMPLES, evaluate_with_confidence
from queryinst_vis.evaluation.diagnosis import diagnose
from queryinst_vis.evaluation.report import percent
from queryinst_vis.evaluation.tracking_confidence import (
    RESAMPLED,
    evaluate_tracking_with_confidence,
)
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis
from queryinst_vis.formats.video_set import VideoSet


@dataclass(frozen=True)
class Assessment:
    """A result file and what its evaluation found.

    Attributes:
        name: of the file, as the page shows it.
        video_set: its videos, to be drawn.
        precision: of ``evaluate_youtube_vis``.
        tracking: of ``evaluate_tracking``.
        diagnosis: of ``diagnose``.
        intervals: ``[low, high]`` by metric; empty for a single video.
    """

    name: str
    video_set: VideoSet
    precision: dict[str, Any]
    tracking: dict[str, Any]
    diagnosis: dict[str, Any]
    intervals: Mapping[str, list[float] | None]

    @property
    def values(self) -> dict[str, float]:
        """The metrics of the whole set, fractions, -1 where there is no ground truth."""
        tracked = self.tracking["class_averaged"]
        names = [*RESAMPLED, "MOTA"]
        return {name: self.precision[name] for name in METRICS} | {n: tracked[n] for n in names}

    def interval(self, metric: str) -> str:
        """The 95 % interval of a metric as text in percent, empty where there is none."""
        bounds = self.intervals.get(metric)
        return "" if bounds is None else " to ".join(map(percent, bounds))


def assess(
    gt: Path, results: Path, name: str, threshold: float, workers: int = 1, samples: int = SAMPLES
) -> Assessment:
    """Evaluate a YouTube-VIS result file in every respect.

    Args:
        gt, results, workers: as for ``evaluate_youtube_vis``.
        name: the results' name in the page.
        threshold: tracks of a lower score do not count for HOTA and IDF1.
        samples: draws of the videos for the intervals.

    Raises:
        InputError: a file cannot be used.
    """
    video_set = VideoSet(gt, results)
    if len(video_set) > 1:
        precision = evaluate_with_confidence(gt, results, samples, workers=workers)
        tracking = evaluate_tracking_with_confidence(gt, results, samples, threshold=threshold)
        intervals = {
            **precision["confidence"]["intervals"],
            **tracking["confidence"]["intervals"],
        }
    else:
        precision = evaluate_youtube_vis(gt, results, workers)
        tracking = evaluate_tracking(gt, results, threshold=threshold)
        intervals = {}
    diagnosis = diagnose(gt, results, workers)
    return Assessment(name, video_set, precision, tracking, diagnosis, intervals)
