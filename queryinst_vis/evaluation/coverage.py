"""Identities per object and objects per identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from queryinst_vis.evaluation.clear import NONE, FrameMatches, match_frames
from queryinst_vis.evaluation.similarity import Counts, TrackSimilarity, compare_tracks
from queryinst_vis.formats.video_set import VideoTracks

COVERAGE_COUNTS = (
    "objects",
    "objects_found",
    "objects_missed",
    "identities",
    "identities_matched",
)
"""The metrics of ``coverage_metrics`` that are integers."""

RATIOS = ("identities_per_object", "objects_per_identity")
"""The metrics that are means: at least 1, and 1 if every identity is correct."""


@dataclass(frozen=True)
class Coverage:
    """Number of frames in which identities and objects of one class in one video match.

    Attributes:
        ground_truth_ids: ids of the G ground-truth objects (without ``iscrowd`` regions).
        detection_ids: ids of the D identities: their positions in the result file.
        frames: ``(G, D)`` number of frames in which the identity is matched to the object.
    """

    ground_truth_ids: list[int]
    detection_ids: list[int]
    frames: np.ndarray


@dataclass(frozen=True)
class CoverageCounts(Counts):
    """Numbers of objects, identities, and pairs of both that match in at least one frame.

    Attributes:
        objects: ground-truth objects that are visible in at least one frame.
        objects_found: those matched in at least one frame.
        identities: predicted tracks with at least one mask that counts.
        identities_matched: those matched to an object in at least one frame.
        pairs: distinct (object, identity) pairs.
    """

    objects: int
    objects_found: int
    identities: int
    identities_matched: int
    pairs: int


def identity_coverage(tracks: VideoTracks, category_id: int | None) -> Coverage:
    """Count the frames in which each identity matches each object of one class in one video.

    Args:
        tracks: one video.
        category_id: the class; None: the tracks of all classes.
    """
    similarity = compare_tracks(tracks, category_id)
    return _cover(similarity, match_frames(similarity))


def coverage_counts(similarity: TrackSimilarity, matches: FrameMatches) -> CoverageCounts:
    """Count one class in one video, from its ``match_frames``.

    Objects and identities are matched per frame as in CLEAR MOT (one-to-one, IoU of at least .5,
    matches of the previous frame are kept if possible), so an object with n identities has at least
    n - 1 identity switches. A match of a single frame counts like any other.
    """
    matched = _cover(similarity, matches).frames > 0
    return CoverageCounts(
        objects=int((similarity.ground_truth_frames > 0).sum()),
        objects_found=int(matched.any(axis=1).sum()),
        identities=int((similarity.detection_frames > 0).sum()),
        identities_matched=int(matched.any(axis=0).sum()),
        pairs=int(matched.sum()),
    )


def coverage_metrics(counts: CoverageCounts) -> dict[str, float | None]:
    """The identity metrics by name.

    Returns:
        ``identities_per_object``: mean number of identities per object that is found;
        ``objects_per_identity``: mean number of objects per identity that is matched;
        both at least 1, or None if nothing matches. The counts (``COVERAGE_COUNTS``):
        ``objects``, of which ``objects_found`` are matched in at least one frame and
        ``objects_missed`` never; ``identities``, of which ``identities_matched``.
    """
    return {
        "objects": counts.objects,
        "objects_found": counts.objects_found,
        "objects_missed": counts.objects - counts.objects_found,
        "identities": counts.identities,
        "identities_matched": counts.identities_matched,
        "identities_per_object": _mean(counts.pairs, counts.objects_found),
        "objects_per_identity": _mean(counts.pairs, counts.identities_matched),
    }


def _cover(similarity: TrackSimilarity, matches: FrameMatches) -> Coverage:
    frames = np.zeros((len(similarity.ground_truth_ids), len(similarity.detection_ids)), dtype=int)
    ground_truth, columns = np.nonzero(matches.detections != NONE)
    np.add.at(frames, (ground_truth, matches.detections[ground_truth, columns]), 1)
    return Coverage(similarity.ground_truth_ids, similarity.detection_ids, frames)


def _mean(total: int, number: int) -> float | None:
    return total / number if number else None
