"""Oracles that repair types of errors in the detections of a video by its ground truth."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from enum import Enum

from queryinst_vis.evaluation.candidates import Candidate, Kind, classify
from queryinst_vis.evaluation.identities import Identities, regroup, with_masks
from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks


class ErrorType(Enum):
    """Error types, in the order of repair of the waterfall.

    Identities come first, since a detection can only be classified once it covers a single object;
    the ranking precedes the masks, since it refers to the predicted masks.
    """

    MERGED = "merged identities"
    SPLIT = "split identities"
    CLASS = "class"
    DUPLICATES = "duplicates"
    BACKGROUND = "background"
    RANKING = "score ranking"
    MASKS = "masks"
    EXTENT = "temporal extent"
    MISSED = "missed"


IDENTITY_ERRORS = frozenset({ErrorType.MERGED, ErrorType.SPLIT})

_REMOVED = {Kind.DUPLICATE: ErrorType.DUPLICATES, Kind.BACKGROUND: ErrorType.BACKGROUND}


def find_candidates(
    tracks: VideoTracks, identities: Identities, repaired: Collection[ErrorType]
) -> list[Candidate]:
    """Classify the detections after repairing the identity errors among these types."""
    detections = regroup(
        tracks, identities, cut=ErrorType.MERGED in repaired, join=ErrorType.SPLIT in repaired
    )
    return classify(detections, countable(tracks.ground_truth))


def countable(ground_truth: Iterable[MaskTrack]) -> list[MaskTrack]:
    """The ground-truth tracks that can be detected: not crowds, with at least one pixel."""
    return [gt for gt in ground_truth if not gt.crowd and gt.sizes.any()]


def repair(
    tracks: VideoTracks, candidates: Sequence[Candidate], repaired: Collection[ErrorType]
) -> VideoTracks:
    """The video with these types of errors repaired.

    * ``CLASS``: detections with a target get its class.
    * ``MASKS``: in frames with both, they get the target's mask.
    * ``EXTENT``: they get the target's mask in frames where they lack one, and lose their mask
      where the target is absent.
    * ``DUPLICATES``, ``BACKGROUND``: detections of that kind are removed.
    * ``RANKING``: the score becomes the IoU with the target (after the other repairs), or 0
      with a wrong class or without a target, so that true positives rank first at any threshold.
    * ``MISSED``: ground-truth tracks without a detection are added, with the highest score;
      empty ones are dropped.

    All repairs together turn every detection into its target, and every object is detected.

    Args:
        tracks: the video.
        candidates: ``find_candidates`` for the same ``repaired``.
        repaired: the error types to repair; those of identities are repaired in ``candidates``.
    """
    detections = [
        _repair_one(candidate, repaired)
        for candidate in candidates
        if _REMOVED.get(candidate.kind) not in repaired
    ]
    if ErrorType.MISSED not in repaired:
        return replace(tracks, detections=detections)
    detected = {id(candidate.target) for candidate in candidates}
    missed = [gt for gt in countable(tracks.ground_truth) if id(gt) not in detected]
    detections += [replace(gt, score=math.inf) for gt in missed]
    not_empty = [gt for gt in tracks.ground_truth if gt.crowd or gt.sizes.any()]
    return replace(tracks, ground_truth=not_empty, detections=detections)


def _repair_one(candidate: Candidate, repaired: Collection[ErrorType]) -> MaskTrack:
    detection, target = candidate.detection, candidate.target
    if target is None:
        return replace(detection, score=0.0) if ErrorType.RANKING in repaired else detection
    if ErrorType.CLASS in repaired:
        detection = replace(detection, category_id=target.category_id)
    masks, extent = ErrorType.MASKS in repaired, ErrorType.EXTENT in repaired
    if masks or extent:
        detection = _repair_masks(detection, target, masks=masks, extent=extent)
    if ErrorType.RANKING in repaired:
        iou = track_ious([detection], [target])[0, 0] if masks or extent else candidate.iou
        correct_class = detection.category_id == target.category_id
        detection = replace(detection, score=float(iou) if correct_class else 0.0)
    return detection


def _repair_masks(
    detection: MaskTrack, target: MaskTrack, *, masks: bool, extent: bool
) -> MaskTrack:
    """Take the target's mask in frames with both (``masks``), and with only one (``extent``)."""
    both_shown = (detection.sizes > 0) & (target.sizes > 0)
    from_target = [masks if both else extent for both in both_shown.tolist()]
    sources = [target if taken else detection for taken in from_target]
    return with_masks(
        detection,
        [source.masks[frame] for frame, source in enumerate(sources)],
        [int(source.sizes[frame]) for frame, source in enumerate(sources)],
    )
