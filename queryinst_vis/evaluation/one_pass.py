"""Average precision and tracking metrics from a single pass over the masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.evaluation.confidence import check_number, confidence_intervals
from queryinst_vis.evaluation.overlaps import frame_overlaps, summed_ious
from queryinst_vis.evaluation.tracking_confidence import tracking_intervals
from queryinst_vis.evaluation.tracking_metrics import (
    TrackingCounts,
    check_threshold,
    confident,
    count_tracks,
)
from queryinst_vis.evaluation.tracking_metrics import summarise as summarise_tracking
from queryinst_vis.evaluation.workers import map_videos
from queryinst_vis.evaluation.youtube_vis import (
    Criteria,
    VideoMatches,
    best_detections,
    describe,
    match_tracks,
)
from queryinst_vis.formats.video_set import VideoSet, VideoTracks

VideoScores = tuple[VideoMatches, dict[int, TrackingCounts]]
"""The matches of one video, and its tracking counts by category id."""


def evaluate_with_tracking(
    gt: str | Path | dict,
    results: str | Path | list,
    threshold: float = 0.0,
    workers: int = 1,
    samples: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """``evaluate_youtube_vis`` with ``tracking``: what ``evaluate_tracking`` returns.

    Args:
        gt, results, workers: as in ``evaluate_youtube_vis``.
        threshold: the tracking metrics ignore tracks with a lower score; AP uses all tracks.
        samples: number of bootstrap resamples for the ``confidence`` of both, as in
            ``evaluate_with_confidence`` and ``evaluate_tracking_with_confidence``; None for none.
        seed: random seed of the resamples.

    Raises:
        InputError: a file is invalid, the threshold is not finite, there are fewer than two videos
            to resample, or the tracking metrics have no mask to evaluate.
    """
    check_threshold(threshold)
    video_set = VideoSet(gt, results)
    if samples is not None:
        check_number(len(video_set))
    score = partial(match_and_count, threshold=threshold)
    scores = map_videos(score, video_set, "Comparing tracks", workers)
    matches, counts = [found[0] for found in scores], [found[1] for found in scores]
    ids = [video.id for video in video_set.videos]
    metrics = describe(video_set, matches)
    tracking = {
        "videos": video_set.summary,
        **summarise_tracking(
            dict(zip(ids, counts, strict=True)), video_set.categories, video_set.names
        ),
    }
    if samples is not None:
        metrics["confidence"] = confidence_intervals(matches, video_set.categories, samples, seed)
        tracking["confidence"] = tracking_intervals(counts, samples, seed)
    return {**metrics, "tracking": tracking}


def match_and_count(tracks: VideoTracks, threshold: float) -> VideoScores:
    """``match_video``, and ``count_tracks`` for each class, from the same mask overlaps.

    Args:
        tracks: one video.
        threshold: minimum score of detections for the tracking metrics.
    """
    criteria = Criteria()
    matches: VideoMatches = {}
    counts: dict[int, TrackingCounts] = {}
    kept = confident(tracks, threshold)
    for category, of_class in sorted(tracks.by_class().items()):
        detections, gts = of_class.detections, of_class.ground_truth
        overlaps = list(frame_overlaps(detections, gts))
        ranked = best_detections(of_class, criteria.max_detections)
        row_of = {track.id: row for row, track in enumerate(detections)}
        rows = [row_of[track.id] for track in ranked.detections]
        ious = summed_ious(detections, gts, overlaps)[rows]
        for area_range, found in match_tracks(ranked, ious, criteria).items():
            matches[category, area_range] = found
        counted = (
            _positions([track.score >= threshold for track in detections]),
            _positions([not track.crowd for track in gts]),
        )
        of_counted = (overlap.renumbered(*counted) for overlap in overlaps)
        count = count_tracks(
            kept, category, [some for some in of_counted if some.intersections.size]
        )
        if not count.empty:
            counts[category] = count
    return matches, counts


def _positions(kept: list[bool]) -> np.ndarray:
    """Index of each kept item among the kept ones; -1 for the others."""
    return np.where(kept, np.cumsum(kept) - 1, -1)
