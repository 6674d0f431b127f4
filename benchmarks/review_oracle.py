"""Clips with ground truth whose tracks an oracle corrects, for ``review_queue``, ``review_fit``
and ``review_circle``.

The oracle reviews the suggestions about identities (fragments, changed identity, swapped), the
best first: it accepts what the ground truth confirms in the ten observations next to the place,
and dismisses the rest. Both count as one look, and after each accepted one the queue is made
anew. Regions are left as they are, so IDF1 and HOTA rise by identities alone; suggestions that
would remove or add regions are left out.

Videos come from QUERYINST_VIS_DATA/data, and their tracks are found by the weights ``people``.
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
from queryinst_vis.review.courses import Course, course_of, embeddings_of_run
from queryinst_vis.review.edits import perform
from queryinst_vis.review.pieces import Stored
from queryinst_vis.review.queue import ranked, suggestions_for
from queryinst_vis.review.state import ReviewState
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
NEXT_TO = 10
"""Observations on either side of a place by which the oracle decides."""


@dataclass(frozen=True)
class Clip:
    """A tracked clip with its ground truth.

    Attributes:
        session: of its tracks.
        gt: the ground truth, and the tracks as they were found.
        shown: ``(frames,)`` ground truth of each region of a track, by track; -1: none.
        found: the tracks by their ids.
        perfect: the same regions with perfect identities.
    """

    session: ReviewSession
    gt: VideoTracks
    shown: dict[int, np.ndarray]
    found: dict[int, MaskTrack]
    perfect: list[MaskTrack]


def open_clip(name: str, cache: Path) -> Clip:
    """Convert and track a clip, unless ``cache`` has it."""
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
    """The folder of the data sets."""
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError("QUERYINST_VIS_DATA must name the folder that holds data/")
    return Path(os.environ["QUERYINST_VIS_DATA"]) / "data"


def compare(annotations: Path, tracks: Path) -> tuple[VideoTracks, list[int]]:
    """The only video of a set with the tracks that were found in it, and their ids."""
    with TrackStore() as store:
        read_track_lines(tracks / "tracks.jsonl", store)
        category = min(VideoSet(str(annotations), []).categories)  # scored as of any class
        entries = youtube_vis_entries(store, 1, [category])
        ids = [track.track_id for track in store]
    [gt] = VideoSet(str(annotations), entries)
    return gt, ids


def track_set(annotations: Path, images: Path, folder: Path, weights: str = "people") -> None:
    """Track the only video of a set."""
    [video] = read_json(annotations, "annotations")["videos"]
    track_video([images / name for name in video["file_names"]], folder, weights, save=("jsonl",))


def courses_of(clip: Clip, state: ReviewState) -> dict[int, Course]:
    """The courses of a state's tracks."""
    embeddings = embeddings_of_run(clip.session.run)
    return {
        id_: course_of(clip.session.index, track, embeddings, clip.session.colours)
        for id_, track in state.tracks.items()
    }


def gt_of(clip: Clip, course: Course) -> np.ndarray:
    """``(N,)`` the ground truth of each of a course's observations, -1: none."""
    pairs = zip(course.sources.tolist(), course.frames.tolist(), strict=True)
    return np.array([clip.shown[source][frame] for source, frame in pairs], dtype=int)


def who(gt: np.ndarray, *, at_end: bool) -> int | None:
    """The object that most of the known observations at an end show; None: nothing is known."""
    known = gt[gt >= 0]
    known = known[-NEXT_TO:] if at_end else known[:NEXT_TO]
    return int(np.bincount(known).argmax()) if len(known) else None


def confirmed(clip: Clip, state: ReviewState, action: Edit) -> bool:
    """Whether the ground truth says that the action of a suggestion is right."""

    def course(track: int) -> Course:
        return course_of(clip.session.index, state.track(track), {})

    def sides(track: Course, frame: int) -> tuple[int | None, int | None]:
        gt, at = gt_of(clip, track), int(np.searchsorted(track.frames, frame))
        return who(gt[:at], at_end=True), who(gt[at:], at_end=False)

    if isinstance(action, Split):
        before, after = sides(course(action.track), action.frame)
        return before is not None and after is not None and before != after
    if isinstance(action, Swap):
        first, second = (
            sides(course(track), action.frame) for track in (action.first, action.second)
        )
        rest = second[1] is None or second[1] == first[0]
        return first[0] != first[1] and first[1] is not None and second[0] == first[1] and rest
    assert isinstance(action, Merge)
    earlier, later = sorted(
        (course(action.first), course(action.second)), key=lambda track: int(track.frames[0])
    )
    begin = int(later.frames[0])
    before, _ = sides(earlier, begin)
    return before is not None and before == who(gt_of(clip, later), at_end=False)


def counts_of(gt: VideoTracks, detections: list[MaskTrack]) -> TrackingCounts:
    """What tracks amount to, whatever their classes."""
    return count_tracks(replace(gt, detections=detections), None)


def detections_of(clip: Clip, state: ReviewState) -> list[MaskTrack]:
    """The tracks of a state, made of the regions that were found."""
    detections = []
    for track in state.tracks.values():
        masks: list[Any] = [None] * clip.gt.video.length
        sizes = np.zeros(len(masks), dtype=np.int64)
        for piece in track.pieces:
            assert isinstance(piece.source, Stored)
            found = clip.found[piece.source.track_id]
            masks[piece.start : piece.stop] = _over(
                masks[piece.start : piece.stop], found.masks[piece.start : piece.stop]
            )
            sizes[piece.start : piece.stop] += found.sizes[piece.start : piece.stop]
        detections.append(MaskTrack(track.track_id, 1, masks, sizes, float(sizes.mean()), 1.0))
    return detections


def _over(old: list[Any], new: list[Any]) -> list[Any]:
    return [b if a is None else a for a, b in zip(old, new, strict=True)]


class Look(NamedTuple):
    """What has come of the looks so far.

    Attributes:
        state: the tracks.
        confirmed: number of suggestions that were accepted.
        accepted: what the last look led to; None: it was dismissed, or there was none yet.
    """

    state: ReviewState
    confirmed: int = 0
    accepted: Edit | None = None


def review(clip: Clip, most: int, seed: int | None) -> Iterator[Look]:
    """Let the oracle look at suggestions; ``seed`` shuffles them.

    Yields:
        The state before any look, and after each.
    """
    index, state = clip.session.index, clip.session.state
    chooser = None if seed is None else random.Random(seed)
    right = 0
    yield Look(state)
    found: list[Suggestion] | None = None
    for _ in range(most):
        if found is None:
            found = _about_identity(clip, state)
            if chooser is not None:
                chooser.shuffle(found)
        queue = ranked(found, state.dismissed)
        if chooser is not None:
            left = {each.id for each in queue}
            queue = [each for each in found if each.id in left]
        if not queue:
            break
        suggestion = queue[0]
        accepted = suggestion.accept if confirmed(clip, state, suggestion.accept) else None
        state = perform(index, state, accepted or suggestion.dismiss).state
        if accepted is not None:
            right += 1
            found = None
        yield Look(state, right, accepted)


def _about_identity(clip: Clip, state: ReviewState) -> list[Suggestion]:
    """Suggestions that leave all regions as they are, with those that were dismissed."""
    session, state = clip.session, replace(state, dismissed=frozenset())
    return [
        each
        for each in suggestions_for(session.index, state, session.run, session.colours)
        if each.kind in IDENTITY and not (isinstance(each.accept, Merge) and each.accept.decide)
    ]


def metrics(counts: TrackingCounts) -> dict[str, float]:
    """HOTA and IDF1 in per cent."""
    return {
        "HOTA": 100 * float(hota_metrics(counts.hota)["HOTA"]),
        "IDF1": 100 * float(identity_metrics(counts.identity)["IDF1"]),
    }
