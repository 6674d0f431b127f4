"""All evaluations of a result file, for a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.confidence import SAMPLES, evaluate_with_confidence
from queryinst_vis.evaluation.diagnosis import Diagnosis, diagnose
from queryinst_vis.evaluation.one_pass import evaluate_with_tracking
from queryinst_vis.evaluation.report import percent
from queryinst_vis.evaluation.tracking_confidence import RESAMPLED
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.report.image_sets import (
    annotations_as_videos,
    evaluate_masks,
    results_as_videos,
)


@dataclass(frozen=True)
class Assessment:
    """A result file and its evaluation.

    Attributes:
        name: name of the results in the report.
        video_set: the videos, for drawing clips.
        precision: result of ``evaluate_youtube_vis``, or for images the masks of ``evaluate_coco``.
        tracking: result of ``evaluate_tracking``; None for images.
        diagnosis: result of ``diagnose``.
        intervals: ``[low, high]`` by metric; empty for a single video.
    """

    name: str
    video_set: VideoSet
    precision: dict[str, Any]
    tracking: dict[str, Any] | None
    diagnosis: Diagnosis
    intervals: Mapping[str, list[float] | None]

    @property
    def values(self) -> dict[str, float]:
        """The metrics of the whole set as fractions, -1 without ground truth."""
        values = {name: self.precision[name] for name in METRICS}
        if self.tracking is not None:
            tracked = self.tracking["class_averaged"]
            values |= {name: tracked[name] for name in (*RESAMPLED, "MOTA")}
        return values

    @property
    def tracked_metrics(self) -> tuple[str, ...]:
        """The tracking metrics in tables; none for images."""
        return () if self.tracking is None else ("HOTA", "IDF1")

    def of_class(self, name: str) -> Mapping[str, float]:
        """The tracking metrics of a class; empty if it does not occur, and for images."""
        return {} if self.tracking is None else self.tracking["per_class"][name] or {}

    def by_video(self) -> dict[str, Mapping[str, float]]:
        """The tracking metrics of each video with tracks, by video name."""
        found = [] if self.tracking is None else self.tracking["per_video"]
        return {metrics["video"]: metrics for metrics in found}

    def interval(self, metric: str) -> str:
        """The 95 % interval of a metric in percent, as text; empty if there is none."""
        bounds = self.intervals.get(metric)
        return "" if bounds is None else " to ".join(map(percent, bounds))


def assess_videos(
    gt: Path, results: Path, name: str, threshold: float, workers: int = 1, samples: int = SAMPLES
) -> Assessment:
    """Run all evaluations of a YouTube-VIS result file.

    Args:
        gt, results, workers: as for ``evaluate_youtube_vis``.
        name: name of the results in the report.
        threshold: minimum score of tracks for HOTA and IDF1.
        samples: number of bootstrap resamples.

    Raises:
        InputError: a file is invalid.
    """
    video_set = VideoSet(gt, results)
    resamples = samples if len(video_set) > 1 else None
    precision = evaluate_with_tracking(gt, results, threshold, workers, resamples)
    tracking = precision.pop("tracking")
    intervals = {}
    if resamples is not None:
        intervals = {
            **precision["confidence"]["intervals"],
            **tracking["confidence"]["intervals"],
        }
    diagnosis = diagnose(gt, results, workers)
    return Assessment(name, video_set, precision, tracking, diagnosis, intervals)


def assess_images(
    gt: Path, results: Path, name: str, workers: int = 1, samples: int = SAMPLES
) -> Assessment:
    """Run all evaluations of the masks of a COCO result file.

    Metrics by area use COCO's area ranges, which differ from those of YouTube-VIS, and have no
    intervals.

    Args:
        gt, results: as for ``evaluate_coco``.
        name, workers, samples: as for ``assess_videos``.

    Raises:
        InputError: a file is invalid or has no masks.
    """
    precision = evaluate_masks(gt, results)
    as_videos = annotations_as_videos(gt), results_as_videos(results)
    video_set = VideoSet(*as_videos)
    intervals = {}
    if len(video_set) > 1:
        resampled = evaluate_with_confidence(*as_videos, samples, workers=workers)
        intervals = {
            metric: bounds
            for metric, bounds in resampled["confidence"]["intervals"].items()
            if METRICS[metric].area_range == "all"
        }
        precision |= {key: resampled[key] for key in ("per_video_AP", "videos")}
    else:
        precision = evaluate_youtube_vis(*as_videos, workers) | precision
    diagnosis = diagnose(*as_videos, workers)
    _name_by_file(video_set, precision["per_video_AP"], diagnosis["lost_per_video"])
    return Assessment(name, video_set, precision, None, diagnosis, intervals)


def _name_by_file(video_set: VideoSet, *tables: dict[str, Any]) -> None:
    """Name images after their files if these are unique; videos are named after their folders."""
    files = {video.id: video.file_names[0] for video in video_set.videos if video.file_names}
    if len(set(files.values())) < len(video_set):
        return
    renamed = {video_set.names[image]: file for image, file in files.items()}
    video_set.names = files
    for table in tables:
        values = {renamed[name]: value for name, value in table.items()}
        table.clear()
        table.update(values)
