"""Association oracle: split detections that switch objects, join detections of one object.

Masks keep their pixels and frames; only the detection that they belong to changes. In array
shapes, D stands for detections, G for ground-truth tracks without crowds, F for frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import MATCH_IOU, compare_tracks
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks
from queryinst_vis.masks import RLE

NOTHING = -1
"""Index of "no ground truth" or "no detection"."""


@dataclass(frozen=True)
class Identities:
    """The objects that the masks of each detection match, regardless of class.

    Attributes:
        shown: ``(D, F)`` index of the ground-truth track that a mask matches, or ``NOTHING``:
            one-to-one within each frame, with an IoU of at least .5.
        frames: ``(D, G)`` number of frames in which a detection matches a ground-truth track; the
            fractional part increases with the IoU and only breaks ties.
        main: ``(D,)`` the ground-truth track that a detection matches most, or ``NOTHING``.
        owner: ``(G,)`` among the detections whose main track this is, the one that matches it
            most, or ``NOTHING``.
    """

    shown: np.ndarray
    frames: np.ndarray
    main: np.ndarray
    owner: np.ndarray

    @property
    def num_merged(self) -> int:
        """Number of detections that match more than one object."""
        return int(((self.frames > 0).sum(axis=1) > 1).sum())

    @property
    def num_split(self) -> int:
        """Number of objects that match more than one detection."""
        return int(((self.frames > 0).sum(axis=0) > 1).sum())


def identify(tracks: VideoTracks) -> Identities:
    """Match masks to objects in every frame, maximising the sum of IoUs.

    A pair with an IoU of at least .5 takes precedence if its detection is the one that overlaps the
    object so in most frames, so that correct identities are not changed.
    """
    similarity = compare_tracks(tracks, None)
    shape = (len(tracks.detections), len(similarity.ground_truth_ids))
    overlapping = np.zeros(shape)
    for frame in similarity.frames:
        weights = _match_weights(frame.ious, tracks)
        overlapping[np.ix_(frame.detections, frame.ground_truth)] += weights.T
    preferred = _best(overlapping, axis=0)
    shown = np.full((shape[0], tracks.video.length), NOTHING)
    frames = np.zeros(shape)
    for frame in similarity.frames:
        weights = _match_weights(frame.ious, tracks)
        is_preferred = frame.detections[None, :] == preferred[frame.ground_truth][:, None]
        rows, columns = linear_sum_assignment(weights * (1 + 2 * is_preferred), maximize=True)
        matched = weights[rows, columns] > 0
        rows, columns = rows[matched], columns[matched]
        shown[frame.detections[columns], frame.frame] = frame.ground_truth[rows]
        frames[frame.detections[columns], frame.ground_truth[rows]] += weights[rows, columns]
    main = _best(frames, axis=1)
    owned = np.where(np.arange(shape[1]) == main[:, None], frames, 0.0)
    return Identities(shown, frames, main, _best(owned, axis=0))


def _match_weights(ious: np.ndarray, tracks: VideoTracks) -> np.ndarray:
    """1 plus a small multiple of the IoU for pairs with an IoU of at least .5, 0 for others.

    Summed over the frames of a video, the integer part counts frames and the fractional part, which
    stays below 1, breaks ties.
    """
    return np.where(ious >= MATCH_IOU, 1 + ious / (tracks.video.length + 1), 0.0)


def _best(weights: np.ndarray, axis: int) -> np.ndarray:
    """Index of the largest entry along ``axis``, ``NOTHING`` if none is above 0."""
    if weights.shape[axis] == 0:
        return np.full(weights.shape[1 - axis], NOTHING)
    return np.where(weights.max(axis=axis) > 0, weights.argmax(axis=axis), NOTHING)


def regroup(
    tracks: VideoTracks, identities: Identities, *, cut: bool, join: bool
) -> list[MaskTrack]:
    """The detections with corrected identities.

    Args:
        tracks: a video.
        identities: the result of ``identify``.
        cut: move masks of another object than the detection's main one to the owner of that
            object. An object without an owner gets a new detection, with the class and score of
            the one that matched it most.
        join: move the masks of a detection whose main object has another owner to that owner, in
            frames where the owner itself does not match the object.

    Returns:
        The detections in the same order, new ones at the end, without those that have no masks
        left. A mask that matches no object moves with its detection, unless that has a matched
        mask in the frame.
    """
    if not (identities.shown != NOTHING).any():
        return tracks.detections
    owner = identities.owner
    split_sources: list[int] = []
    if cut:
        owner, split_sources = _with_split_sources(identities)
    targets = _targets(identities, owner, cut=cut, join=join)
    sources = np.full((len(targets) + len(split_sources), targets.shape[1]), NOTHING)
    for detection, frame in _by_precedence(tracks, identities, targets):
        for target in (targets[detection, frame], detection):
            if sources[target, frame] == NOTHING:
                sources[target, frame] = detection
                break
    originals = [*tracks.detections, *(tracks.detections[source] for source in split_sources)]
    regrouped = [
        (original, _assemble(original, tracks.detections, frame_sources))
        for original, frame_sources in zip(originals, sources, strict=True)
    ]
    return [track for original, track in regrouped if track is original or any(track.masks)]


def _with_split_sources(identities: Identities) -> tuple[np.ndarray, list[int]]:
    """Owners, with a new one for each matched object that has none; what these are split from."""
    owner = identities.owner.copy()
    split_sources: list[int] = []
    for gt in np.flatnonzero((owner == NOTHING) & (identities.frames > 0).any(axis=0)):
        owner[gt] = len(identities.main) + len(split_sources)
        split_sources.append(int(identities.frames[:, gt].argmax()))
    return owner, split_sources


def _targets(identities: Identities, owner: np.ndarray, *, cut: bool, join: bool) -> np.ndarray:
    """``(D, F)`` index of the detection that each mask should belong to."""
    shown, main = identities.shown, identities.main[:, None]
    shows_other = (shown != NOTHING) & (shown != main)
    targets = np.broadcast_to(np.arange(len(shown))[:, None], shown.shape)
    if join:
        targets = np.where(~shows_other & (main != NOTHING), owner[main], targets)
    if cut:
        targets = np.where(shows_other, owner[shown], targets)
    return targets


def _by_precedence(
    tracks: VideoTracks, identities: Identities, targets: np.ndarray
) -> list[tuple[int, int]]:
    """Masks as (detection, frame): matched before unmatched, then unmoved before moved."""
    masks = [
        (detection, frame)
        for detection, track in enumerate(tracks.detections)
        for frame, mask in enumerate(track.masks)
        if mask
    ]
    return sorted(masks, key=lambda at: (identities.shown[at] == NOTHING, targets[at] != at[0]))


def _assemble(original: MaskTrack, detections: list[MaskTrack], sources: np.ndarray) -> MaskTrack:
    """``original`` with the masks of other detections: ``sources`` has one index per frame."""
    masks = [None if d == NOTHING else detections[d].masks[f] for f, d in enumerate(sources)]
    if all(mask is old for mask, old in zip(masks, original.masks, strict=True)):
        return original
    sizes = [0 if d == NOTHING else detections[d].sizes[f] for f, d in enumerate(sources)]
    return with_masks(original, masks, sizes)


def with_masks(track: MaskTrack, masks: list[RLE | None], sizes: list[int]) -> MaskTrack:
    """The track with other masks; ``sizes`` are their areas in pixels, 0 without a mask."""
    shown = [size for size in sizes if size]
    area = float(np.mean(shown)) if shown else 0.0
    frames = np.array(sizes, dtype=np.int64)
    return replace(track, masks=masks, sizes=frames, area=area, decoded=None)
