"""Missed objects, false positives and identity switches per frame."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from queryinst_vis.evaluation.clear import NONE, id_switches, match_frames
from queryinst_vis.evaluation.similarity import compare_tracks
from queryinst_vis.formats.video_set import VideoTracks


@dataclass
class FrameErrors:
    """The errors in one frame, all classes, with the matching of CLEAR MOT within each class.

    Attributes:
        missed: ids of visible objects that no detection of their class matches.
        false: ids of detections that match no object of their class.
        switched: ids of objects with an identity switch in this frame.
    """

    missed: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    switched: list[int] = field(default_factory=list)


def frame_errors(tracks: VideoTracks) -> dict[int, FrameErrors]:
    """The errors in a video by frame (0-based, ascending), without frames that have none.

    They add up to the ``FN``, ``FP`` and ``IDSW`` of ``evaluate_tracking``.
    """
    errors: dict[int, FrameErrors] = defaultdict(FrameErrors)
    both = [*tracks.ground_truth, *tracks.detections]
    for category in sorted({track.category_id for track in both}):
        similarity = compare_tracks(tracks, category)
        matches = match_frames(similarity)
        missed, false = similarity.shown.copy(), similarity.counted.copy()
        for column, frame in enumerate(similarity.frames):
            detections = matches.detections[:, column]
            missed[detections != NONE, frame.frame] = False
            false[detections[detections != NONE], frame.frame] = False
        for row, frame_index in zip(*np.nonzero(missed), strict=True):
            errors[int(frame_index)].missed.append(similarity.ground_truth_ids[row])
        for row, frame_index in zip(*np.nonzero(false), strict=True):
            errors[int(frame_index)].false.append(similarity.detection_ids[row])
        for switch in id_switches(tracks, category):
            errors[switch.frame].switched.append(switch.ground_truth_id)
    return dict(sorted(errors.items()))
