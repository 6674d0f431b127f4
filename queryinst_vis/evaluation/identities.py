"""Who has which identity: cut detections that change objects, join those that share one.

An oracle for association alone: masks keep their pixels and frames, only the detection that
they belong to changes. In array shapes, D stands for detections, G for ground truths without
crowd, F for frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from queryinst_vis.evaluation.similarity import MATCH_IOU, compare_tracks
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks
from queryinst_vis.masks import RLE

NOTHING = -1
"""Stands for "no ground truth" or "no detection" where they are named by their index."""


@dataclass(frozen=True)
class Identities:
    """Which objects the masks of each detection show, whatever their classes.

    Attributes:
        shown: ``(D, F)`` index of the ground truth that a mask shows, or ``NOTHING``. In each
            frame a mask shows at most one object, with an IoU of .5 or more, and no two masks
            show the same.
        frames: ``(D, G)`` in how many frames a detection shows a ground truth; the fraction
            grows with the IoU and only breaks ties.
        main: ``(D,)`` the ground truth that a detection shows most, or ``NOTHING``.
        owner: ``(G,)`` of the detections whose main object a ground truth is, the one that
            shows it most, or ``NOTHING``.
    """

    shown: np.ndarray
    frames: np.ndarray
    main: np.ndarray
    owner: np.ndarray

    @property
    def num_merged(self) -> int:
        """Detections that show more than one object."""
        return int(((self.frames > 0).sum(axis=1) > 1).sum())

    @property
    def num_split(self) -> int:
        """Objects that more than one detection shows."""
        return int(((self.frames > 0).sum(axis=0) > 1).sum())


def identify(tracks: VideoTracks) -> Identities:
    """Pair masks with objects in every frame, by the best sum of IoUs.

    A mask that fits (IoU .5 or more) is not pushed aside if its detection fits that object
    longer than all others do: what is right stays as it is.
    """
    similarity = compare_tracks(tracks, None)
    shape = (len(tracks.detections), len(similarity.ground_truth_ids))
    fitting = np.zeros(shape)
    for frame in similarity.frames:
        fit = _frame_and_iou(frame.ious, tracks)
        fitting[np.ix_(frame.detections, frame.ground_truth)] += fit.T
    longest = _best(fitting, axis=0)
    shown = np.full((shape[0], tracks.video.length), NOTHING)
    frames = np.zeros(shape)
    for frame in similarity.frames:
        fit = _frame_and_iou(frame.ious, tracks)
        lasting = frame.detections[None, :] == longest[frame.ground_truth][:, None]
        rows, columns = linear_sum_assignment(fit * (1 + 2 * lasting), maximize=True)
        fits = fit[rows, columns] > 0
        rows, columns = rows[fits], columns[fits]
        shown[frame.detections[columns], frame.frame] = frame.ground_truth[rows]
        frames[frame.detections[columns], frame.ground_truth[rows]] += fit[rows, columns]
    main = _best(frames, axis=1)
    owned = np.where(np.arange(shape[1]) == main[:, None], frames, 0.0)
    return Identities(shown, frames, main, _best(owned, axis=0))


def _frame_and_iou(ious: np.ndarray, tracks: VideoTracks) -> np.ndarray:
    """1 for a pair that fits, and a fraction that grows with its IoU; all a video's stay below 1.

    Summed over frames, the whole part counts frames and the fraction decides between equals.
    """
    return np.where(ious >= MATCH_IOU, 1 + ious / (tracks.video.length + 1), 0.0)


def _best(strength: np.ndarray, axis: int) -> np.ndarray:
    """Index of the largest entry along ``axis``, ``NOTHING`` where none is above 0."""
    if strength.shape[axis] == 0:
        return np.full(strength.shape[1 - axis], NOTHING)
    return np.where(strength.max(axis=axis) > 0, strength.argmax(axis=axis), NOTHING)


def regroup(
    tracks: VideoTracks, identities: Identities, *, cut: bool, join: bool
) -> list[MaskTrack]:
    """The detections with identities set right.

    Args:
        tracks: a video.
        identities: what ``identify`` says of it.
        cut: a mask that shows another object than its detection's main one goes to the owner of
            that object. An object without owner gets a new detection, with label and score of
            the one that showed it most.
        join: a detection whose main object another one owns gives its masks to that owner, in
            frames where the owner does not show the object itself.

    Returns:
        Detections in their order, new ones at the end, those that gave all their masks away
        left out. A mask that shows nothing goes with its detection and yields its place to one
        that shows something.
    """
    if not (identities.shown != NOTHING).any():
        return tracks.detections
    owner = identities.owner
    split_sources: list[int] = []
    if cut:
        owner, split_sources = _with_split_sources(identities)
    goals = _goals(identities, owner, cut=cut, join=join)
    sources = np.full((len(goals) + len(split_sources), goals.shape[1]), NOTHING)
    for detection, frame in _by_precedence(tracks, identities, goals):
        for place in (goals[detection, frame], detection):
            if sources[place, frame] == NOTHING:
                sources[place, frame] = detection
                break
    models = [*tracks.detections, *(tracks.detections[source] for source in split_sources)]
    rebuilt = [
        _gather(model, tracks.detections, source)
        for model, source in zip(models, sources, strict=True)
    ]
    kept = [
        track is model or any(track.masks) for track, model in zip(rebuilt, models, strict=True)
    ]
    return [track for track, keep in zip(rebuilt, kept, strict=True) if keep]


def _with_split_sources(identities: Identities) -> tuple[np.ndarray, list[int]]:
    """An owner for every object that is shown, and whose twins the added owners are."""
    owner = identities.owner.copy()
    split_sources: list[int] = []
    for gt in np.flatnonzero((owner == NOTHING) & (identities.frames > 0).any(axis=0)):
        owner[gt] = len(identities.main) + len(split_sources)
        split_sources.append(int(identities.frames[:, gt].argmax()))
    return owner, split_sources


def _goals(identities: Identities, owner: np.ndarray, *, cut: bool, join: bool) -> np.ndarray:
    """``(D, F)`` index of the detection that each mask should belong to."""
    shown, main = identities.shown, identities.main[:, None]
    own = np.broadcast_to(np.arange(len(shown))[:, None], shown.shape)
    elsewhere = (shown != NOTHING) & (shown != main)
    goals = own
    if join:
        goals = np.where(~elsewhere & (main != NOTHING), owner[main], goals)
    if cut:
        goals = np.where(elsewhere, owner[shown], goals)
    return goals


def _by_precedence(
    tracks: VideoTracks, identities: Identities, goals: np.ndarray
) -> list[tuple[int, int]]:
    """Masks as (detection, frame): those that show an object first, and those that stay."""
    masks = [
        (detection, frame)
        for detection, track in enumerate(tracks.detections)
        for frame, mask in enumerate(track.masks)
        if mask
    ]
    return sorted(masks, key=lambda at: (identities.shown[at] == NOTHING, goals[at] != at[0]))


def _gather(model: MaskTrack, detections: list[MaskTrack], source: np.ndarray) -> MaskTrack:
    """``model`` with the masks that the detections ``source`` have in each frame."""
    masks = [None if d == NOTHING else detections[d].masks[f] for f, d in enumerate(source)]
    if all(mask is old for mask, old in zip(masks, model.masks, strict=True)):
        return model
    sizes = [0 if d == NOTHING else detections[d].sizes[f] for f, d in enumerate(source)]
    return with_masks(model, masks, sizes)


def with_masks(track: MaskTrack, masks: list[RLE | None], sizes: list[int]) -> MaskTrack:
    """The track with other masks; ``sizes`` are their pixels, 0 where there is none."""
    shown = [size for size in sizes if size]
    area = float(np.mean(shown)) if shown else 0.0
    frames = np.array(sizes, dtype=np.int64)
    return replace(track, masks=masks, sizes=frames, area=area, decoded=None)
