"""Average precision and tracking metrics from a single pass over the masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.evaluation.average_precision import Matches
from queryinst_vis.evaluation.confidence import check_num_videos, confidence_intervals
from queryinst_vis.evaluation.overlaps import FrameOverlap, frame_overlaps, summed_ious
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
    build_result,
    match_tracks,
)
from queryinst_vis.formats.video_set import VideoSet, VideoTracks

VideoScores = tuple[VideoMatches, dict[int, TrackingCounts]]
"""The matches of a video, and its tracking counts by category id."""


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
        check_num_videos(len(video_set))
    score_video = partial(match_and_count, threshold=threshold)
    scores = map_videos(score_video, video_set, "Comparing tracks", workers)
    matches = [video_matches for video_matches, _ in scores]
    counts = [video_counts for _, video_counts in scores]
    ids = [video.id for video in video_set.videos]
    metrics = build_result(video_set, matches)
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
    confident_tracks = confident(tracks, threshold)
    for category, class_tracks in sorted(tracks.by_class().items()):
        overlaps = list(frame_overlaps(class_tracks.detections, class_tracks.ground_truth))
        for area_range, found in _match_class(class_tracks, overlaps, criteria).items():
            matches[category, area_range] = found
        counted = _without_ignored(class_tracks, overlaps, threshold)
        class_counts = count_tracks(confident_tracks, category, counted)
        if not class_counts.empty:
            counts[category] = class_counts
    return matches, counts


def _match_class(
    tracks: VideoTracks, overlaps: Sequence[FrameOverlap], criteria: Criteria
) -> dict[str, Matches]:
    """``match_tracks`` with the overlaps of all tracks, of which the best detections are ranked."""
    ious = summed_ious(tracks.detections, tracks.ground_truth, overlaps)
    row_of = {track.id: row for row, track in enumerate(tracks.detections)}
    ranked = best_detections(tracks, criteria.max_detections)
    return match_tracks(ranked, ious[[row_of[track.id] for track in ranked.detections]], criteria)


def _without_ignored(
    tracks: VideoTracks, overlaps: Sequence[FrameOverlap], threshold: float
) -> list[FrameOverlap]:
    """The overlaps that tracking metrics count: no detections below the threshold, no crowds."""
    rows = _positions([track.score >= threshold for track in tracks.detections])
    columns = _positions([not track.crowd for track in tracks.ground_truth])
    reindexed = (overlap.reindex(rows, columns) for overlap in overlaps)
    return [overlap for overlap in reindexed if overlap.intersections.size]


def _positions(kept: list[bool]) -> np.ndarray:
    """Index of each kept item among the kept ones; -1 for the others."""
    return np.where(kept, np.cumsum(kept) - 1, -1)
