"""Clips with ground truth, and an oracle that reviews suggestions by it.

Used by ``review_queue``, ``review_fit`` and ``review_circle``. The oracle reviews suggestions about
identities (fragments, changed identity, swapped) in order: it accepts those that the ground truth
of the ten observations on either side confirms, and dismisses the others. Each is one review step;
after an accepted one, suggestions are computed anew. Suggestions that would add or remove regions
are left out, so IDF1 and HOTA change by identities alone.

Videos are read from QUERYINST_VIS_DATA/data and tracked with the weights ``people``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from queryinst_vis.data.convert import convert_mots
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.hota import hota_metrics
from queryinst_vis.evaluation.identities import Identities, identify, regroup
from queryinst_vis.evaluation.identity import identity_metrics
from queryinst_vis.evaluation.tracking_metrics import TrackingCounts, count_tracks
from queryinst_vis.formats.results import youtube_vis_entries
from queryinst_vis.formats.track_lines import read_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.video_set import MaskTrack, VideoSet, VideoTracks
from queryinst_vis.inference.track import track_video
from queryinst_vis.review import Merge, ReviewSession, Split, Suggestion, Swap
from queryinst_vis.review.actions import Edit
from queryinst_vis.review.edits import perform
from queryinst_vis.review.pieces import Stored
from queryinst_vis.review.queue import ranked, suggestions_for
from queryinst_vis.review.state import ReviewState
from queryinst_vis.review.trajectories import Trajectory, embeddings_of_run, trajectory_of
from queryinst_vis.utils.files import read_json

FITTED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0002": ("mots", {"sequences": ["0002"]}),
    "0011": ("mots", {"sequences": ["0011"]}),
    "0005_train": ("mots", {"sequences": ["0005"], "end": 0.75}),
}
REVIEWED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0005_reviewed": ("mots", {"sequences": ["0005"], "start": 0.75, "end": 0.875})
}
SCORED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "0005_test": ("mots", {"sequences": ["0005"], "start": 0.75}),
    **{
        name: ("sbi_people", {"sequences": [name]})
        for name in ("CAVIAR1", "CaVignal", "HallAndMonitor", "IBMtest2")
    },
}
"""Clips: folder in ``QUERYINST_VIS_DATA/data``, and options of ``convert_mots``."""

IDENTITY = ("fragments", "changed identity", "swapped")
CONTEXT = 10
"""Observations on either side of a frame by which the oracle decides."""


@dataclass(frozen=True)
class Clip:
    """A tracked clip with its ground truth.

    Attributes:
        session: review session of its tracks.
        gt: the ground truth, and the uncorrected tracks.
        gt_ids: by track id, the ``(F,)`` index of the ground-truth object in each frame; -1: none.
        found: the uncorrected tracks by id.
        perfect: the same regions with perfect identities.
    """

    session: ReviewSession
    gt: VideoTracks
    gt_ids: dict[int, np.ndarray]
    found: dict[int, MaskTrack]
    perfect: list[MaskTrack]


def open_clip(name: str, cache: Path) -> Clip:
    """Convert and track a clip, unless it is in ``cache``, and open its review session."""
    folder, options = {**FITTED, **REVIEWED, **SCORED}[name]
    videos = data() / folder
    annotations, tracks = cache / f"{name}.json", cache / name
    if not annotations.exists():
        convert_mots(videos, annotations, **options)
    if not (tracks / "tracks.jsonl").exists():
        track_set(annotations, videos / "images", tracks)
    session = ReviewSession.open(tracks)
    gt, ids = compare(annotations, tracks)
    identities: Identities = identify(gt)
    return Clip(
        session,
        gt,
        dict(zip(ids, identities.shown, strict=True)),
        dict(zip(ids, gt.detections, strict=True)),
        regroup(gt, identities, cut=True, join=True),
    )


def data() -> Path:
    """The folder of the datasets."""
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError("QUERYINST_VIS_DATA must name the folder that holds data/")
    return Path(os.environ["QUERYINST_VIS_DATA"]) / "data"


def compare(annotations: Path, tracks: Path) -> tuple[VideoTracks, list[int]]:
    """The only video of a dataset with its tracks, and their ids."""
    with TrackStore() as store:
        read_track_lines(tracks / "tracks.jsonl", store)
        category = min(VideoSet(str(annotations), []).categories)  # evaluation is class-agnostic
        entries = youtube_vis_entries(store, 1, [category])
        ids = [track.track_id for track in store]
    [gt] = VideoSet(str(annotations), entries)
    return gt, ids


def track_set(annotations: Path, images: Path, folder: Path, weights: str = "people") -> None:
    """Track the only video of a dataset."""
    [video] = read_json(annotations, "annotations")["videos"]
    track_video([images / name for name in video["file_names"]], folder, weights, save=("jsonl",))


def trajectories_of(clip: Clip, state: ReviewState) -> dict[int, Trajectory]:
    """The trajectories of the tracks of a state, by id."""
    embeddings = embeddings_of_run(clip.session.run)
    return {
        id_: trajectory_of(clip.session.index, track, embeddings, clip.session.colours)
        for id_, track in state.tracks.items()
    }


def gt_of(clip: Clip, track: Trajectory) -> np.ndarray:
    """``(N,)`` index of the ground-truth object of each observation, -1: none."""
    pairs = zip(track.sources.tolist(), track.frames.tolist(), strict=True)
    return np.array([clip.gt_ids[source][frame] for source, frame in pairs], dtype=int)


def majority(gt: np.ndarray, *, at_end: bool) -> int | None:
    """The most frequent object of the first or last known observations; None if none is known."""
    known = gt[gt >= 0]
    known = known[-CONTEXT:] if at_end else known[:CONTEXT]
    return int(np.bincount(known).argmax()) if len(known) else None


def is_confirmed(clip: Clip, state: ReviewState, action: Edit) -> bool:
    """Whether the ground truth confirms the action of a suggestion."""

    def trajectory(track: int) -> Trajectory:
        return trajectory_of(clip.session.index, state.track(track), {})

    def sides(track: Trajectory, frame: int) -> tuple[int | None, int | None]:
        gt, position = gt_of(clip, track), int(np.searchsorted(track.frames, frame))
        return majority(gt[:position], at_end=True), majority(gt[position:], at_end=False)

    if isinstance(action, Split):
        before, after = sides(trajectory(action.track), action.frame)
        return before is not None and after is not None and before != after
    if isinstance(action, Swap):
        first, second = (
            sides(trajectory(track), action.frame) for track in (action.first, action.second)
        )
        rest = second[1] is None or second[1] == first[0]
        return first[0] != first[1] and first[1] is not None and second[0] == first[1] and rest
    assert isinstance(action, Merge)
    earlier, later = sorted(
        (trajectory(action.first), trajectory(action.second)),
        key=lambda track: int(track.frames[0]),
    )
    before, _ = sides(earlier, int(later.frames[0]))
    return before is not None and before == majority(gt_of(clip, later), at_end=False)


def counts_of(gt: VideoTracks, detections: list[MaskTrack]) -> TrackingCounts:
    """The class-agnostic tracking counts of tracks."""
    return count_tracks(replace(gt, detections=detections), None)


def detections_of(clip: Clip, state: ReviewState) -> list[MaskTrack]:
    """The tracks of a state, with the masks of the uncorrected tracks."""
    detections = []
    for track in state.tracks.values():
        masks: list[Any] = [None] * clip.gt.video.length
        sizes = np.zeros(len(masks), dtype=np.int64)
        for piece in track.pieces:
            assert isinstance(piece.source, Stored)
            found = clip.found[piece.source.track_id]
            masks[piece.start : piece.stop] = _first_masks(
                masks[piece.start : piece.stop], found.masks[piece.start : piece.stop]
            )
            sizes[piece.start : piece.stop] += found.sizes[piece.start : piece.stop]
        detections.append(MaskTrack(track.track_id, 1, masks, sizes, float(sizes.mean()), 1.0))
    return detections


def _first_masks(old: list[Any], new: list[Any]) -> list[Any]:
    return [b if a is None else a for a, b in zip(old, new, strict=True)]


class Step(NamedTuple):
    """The state after some review steps.

    Attributes:
        state: the tracks.
        confirmed: number of suggestions accepted so far.
        accepted: action of the last suggestion; None if it was dismissed, or there was none yet.
    """

    state: ReviewState
    confirmed: int = 0
    accepted: Edit | None = None


def review(clip: Clip, steps: int, seed: int | None) -> Iterator[Step]:
    """Let the oracle review suggestions, by rank or in random order.

    Args:
        clip: the clip.
        steps: maximum number of review steps.
        seed: seed of the random order; None: by rank.

    Yields:
        The state before the first step, and after each.
    """
    index, state = clip.session.index, clip.session.state
    shuffler = None if seed is None else random.Random(seed)
    confirmed = 0
    yield Step(state)
    found: list[Suggestion] | None = None
    for _ in range(steps):
        if found is None:
            found = _about_identity(clip, state)
            if shuffler is not None:
                shuffler.shuffle(found)
        queue = ranked(found, state.dismissed)
        if shuffler is not None:
            left = {each.id for each in queue}
            queue = [each for each in found if each.id in left]
        if not queue:
            break
        suggestion = queue[0]
        accepted = suggestion.accept if is_confirmed(clip, state, suggestion.accept) else None
        state = perform(index, state, accepted or suggestion.dismiss).state
        if accepted is not None:
            confirmed += 1
            found = None
        yield Step(state, confirmed, accepted)


def _about_identity(clip: Clip, state: ReviewState) -> list[Suggestion]:
    """Suggestions that change identities only, including dismissed ones."""
    session, state = clip.session, replace(state, dismissed=frozenset())
    return [
        each
        for each in suggestions_for(session.index, state, session.run, session.colours)
        if each.kind in IDENTITY and not (isinstance(each.accept, Merge) and each.accept.decide)
    ]


def metrics(counts: TrackingCounts) -> dict[str, float]:
    """HOTA and IDF1 in percent."""
    return {
        "HOTA": 100 * float(hota_metrics(counts.hota)["HOTA"]),
        "IDF1": 100 * float(identity_metrics(counts.identity)["IDF1"]),
    }
