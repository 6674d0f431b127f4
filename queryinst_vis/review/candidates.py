"""Probable errors of tracks, as suggestions, by kind of error.

Fragments, identity switches and swaps are found by how well the parts of tracks continue one
another (``likelihood``); duplicates, false positives and gaps by overlap, length and score.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.review.actions import Delete, Edit, Fill, Merge, Split, Swap
from queryinst_vis.review.likelihood import (
    FALSE_POSITIVE,
    SWAP,
    link_probability,
    probability,
    track_features,
)
from queryinst_vis.review.suggestions import Crop, Kind, Suggestion
from queryinst_vis.review.switches import (
    MAX_GAP,
    MIN_PROBABILITY,
    Switch,
    candidate_switches,
    rows_to_measure,
    swap_features_at,
    switch_at,
)
from queryinst_vis.review.trajectories import Trajectory, link

_CORRECTED = {"fragments": 0.6, "swapped": 0.45, "changed identity": 0.35}
"""Share of the regions concerned that is correct after the action, measured on the clips that the
models were fitted to: a part that was split off may still have to be merged with another track."""

_TYPICAL_GAP = 10  # frames of a missed detection; longer gaps are less probable
_MAX_SHARED = 3  # frames with both of two fragments
_MIN_FALSE_POSITIVE = 0.3  # probability
_MIN_IOU = 0.5  # of boxes of duplicates
_MIN_OVERLAP = 0.5  # share of frames with at least this IoU
_COMPARED_FRAMES = 50  # maximum per pair of tracks


def find_candidates(trajectories: Iterable[Trajectory]) -> list[Suggestion]:
    """All suggestions for the tracks of a video, in no particular order."""
    search = _Search([each for each in trajectories if len(each)])
    return [
        *search.fragments(),
        *search.switches(),
        *search.duplicates(),
        *search.false_positives(),
        *search.gaps(),
    ]


class _Search:
    """Searches the tracks of a video for each kind of error.

    Args:
        trajectories: trajectories of all tracks, each with at least one observation.
    """

    def __init__(self, trajectories: list[Trajectory]) -> None:
        self._tracks = sorted(trajectories, key=lambda track: int(track.frames[0]))
        self._starts = np.array([track.frames[0] for track in self._tracks])
        self._ends = np.array([track.frames[-1] for track in self._tracks])
        by_boxes = [
            (track, switch) for track in self._tracks for switch in candidate_switches(track)
        ]
        _measure_colours(self._tracks, [switch for _, switch in by_boxes])
        self._switches = [switch_at(track, switch.position) for track, switch in by_boxes]

    def fragments(self) -> Iterator[Suggestion]:
        """Pairs of tracks that may be the same identity."""
        for later in self._tracks:
            for earlier in self._ended_near(int(later.frames[0])):
                if _may_be_fragments(earlier, later):
                    yield from _fragments(earlier, later)

    def switches(self) -> Iterator[Suggestion]:
        """Tracks whose identity may change, by itself or in a swap with another track."""
        for switch in self._switches:
            track = switch.trajectory
            yield _suggestion(
                "changed identity",
                f"track {track.track_id} {_discontinuity(switch)} before frame {switch.frame}",
                switch.probability,
                switch.regions,
                (_last(switch.before), _first(switch.after)),
                Split(track.track_id, switch.frame),
                f"change:{switch.key}",
            )
            if switch.probability < MIN_PROBABILITY:
                continue
            for other in self._ended_near(switch.frame):
                if other is not track:
                    yield from _swapped(switch, other)

    def duplicates(self) -> Iterator[Suggestion]:
        """Pairs of tracks that may follow the same instance at the same time."""
        for number, first in enumerate(self._tracks):
            stop = int(np.searchsorted(self._starts, first.frames[-1], side="right"))
            for second in self._tracks[number + 1 : stop]:
                yield from _duplicates(first, second)

    def false_positives(self) -> Iterator[Suggestion]:
        """Tracks that may be false positives."""
        for track in self._tracks:
            chance = probability(FALSE_POSITIVE, track_features(track.scores))
            if chance < _MIN_FALSE_POSITIVE:
                continue
            best = int(track.scores.argmax())
            yield _suggestion(
                "weak",
                f"track {track.track_id} is in only {len(track)} frames, with a maximum score of "
                f"{track.scores[best]:.2f}",
                chance,
                len(track),
                (_crop(track, best), _crop(track, len(track) // 2)),
                Delete(track.track_id),
                f"weak:{track.sources[0]}@{track.frames[0]}",
            )

    def gaps(self) -> Iterator[Suggestion]:
        """Gaps of tracks in which they may have been missed."""
        for track in self._tracks:
            steps = np.diff(track.frames)
            for before in np.flatnonzero((steps > 1) & (steps <= MAX_GAP)).tolist():
                first, last = (int(frame) for frame in track.frames[before : before + 2])
                if ((track.manual_frames > first) & (track.manual_frames < last)).any():
                    continue
                switch = switch_at(track, before + 1)
                missing = last - first - 1
                yield _suggestion(
                    "gap",
                    f"track {track.track_id} is missing in {missing} frames, {first + 1} to "
                    f"{last - 1}",
                    (1 - switch.probability) / (1 + missing / _TYPICAL_GAP),
                    missing,
                    (_crop(track, before), _crop(track, before + 1)),
                    Fill(track.track_id, ((first + 1, last - 1),)),
                    f"gap:{track.sources[before]}@{first}",
                )

    def _ended_near(self, frame: int) -> list[Trajectory]:
        """Tracks that start before a frame, and end at most ``MAX_GAP`` frames before it."""
        stop = int(np.searchsorted(self._starts, frame))
        chosen = np.flatnonzero(self._ends[:stop] >= frame - MAX_GAP)
        return [self._tracks[number] for number in chosen.tolist()]


def _measure_colours(trajectories: list[Trajectory], switches: list[Switch]) -> None:
    """Measure the colours to be compared; warn if the video cannot be read."""
    colours = trajectories[0].colours if trajectories else None
    if colours is not None:
        try:
            colours.measure(rows_to_measure(trajectories, switches))
        except InputError as error:
            warnings.warn(f"colours are not compared: {error}", InputWarning, stacklevel=2)


def _may_be_fragments(first: Trajectory, second: Trajectory) -> bool:
    """Whether two tracks share few frames and were not split by the user."""
    if first.source_ids & second.source_ids:
        return False
    if first.frames[-1] < second.frames[0] or second.frames[-1] < first.frames[0]:
        return True
    return len(np.intersect1d(first.frames, second.frames, assume_unique=True)) <= _MAX_SHARED


def _fragments(earlier: Trajectory, later: Trajectory) -> Iterator[Suggestion]:
    """``later`` may continue ``earlier`` where it ends, or fill one of its gaps."""
    gap = int(np.searchsorted(earlier.frames, later.frames[0]))
    before, rest = earlier.part(0, gap), earlier.part(gap)
    cues = link(before, later)
    chance = link_probability(cues)
    beyond = rest.part(int(np.searchsorted(rest.frames, later.frames[-1], side="right")))
    if len(rest):
        if not len(beyond):
            return
        chance = min(chance, link_probability(link(later, beyond)))
    share_frames = len(rest) > len(beyond)
    longer, shorter = (earlier, later) if len(earlier) >= len(later) else (later, earlier)
    yield _suggestion(
        "fragments",
        f"track {later.track_id} starts {cues.gap} frames after track {earlier.track_id} "
        f"{'is lost' if len(rest) else 'ends'}, {cues.distance:.1f} box heights away",
        chance,
        len(shorter),
        (_last(before), _first(later)),
        Merge(longer.track_id, shorter.track_id, "keep first" if share_frames else None),
        f"join:{before.sources[-1]}@{before.frames[-1]}:{later.sources[0]}@{later.frames[0]}",
    )


def _swapped(switch: Switch, other: Trajectory) -> Iterator[Suggestion]:
    """A track may take over the identity of another one, which ends or takes over that of it."""
    features = swap_features_at(switch, other)
    if features is None:
        return
    position = int(np.searchsorted(other.frames, switch.frame))
    before, after = other.part(0, position), other.part(position)
    count = min(len(before), len(switch.after)) + min(switch.position, len(after))
    track, action = switch.trajectory, "swap identities with" if len(after) else "continue"
    yield _suggestion(
        "swapped",
        f"track {track.track_id} {_discontinuity(switch)} before frame {switch.frame} and may "
        f"{action} track {other.track_id}",
        probability(SWAP, features),
        count,
        (_last(before), _first(switch.after)),
        Swap(track.track_id, other.track_id, switch.frame),
        f"swap:{switch.key}:{other.sources[position - 1]}",
        f"change:{switch.key}",
    )


def _duplicates(first: Trajectory, second: Trajectory) -> Iterator[Suggestion]:
    shared, own, others = np.intersect1d(
        first.frames, second.frames, assume_unique=True, return_indices=True
    )
    if not len(shared):
        return
    sample = np.unique(np.linspace(0, len(shared) - 1, _COMPARED_FRAMES).astype(int))
    ious = _ious(first.boxes[own[sample]], second.boxes[others[sample]])
    share = float((ious >= _MIN_IOU).mean())
    if share < _MIN_OVERLAP:
        return
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    best = int(own[sample][int(ious.argmax())])
    frame = int(first.frames[best])
    yield _suggestion(
        "duplicate",
        f"tracks {first.track_id} and {second.track_id} overlap in {share:.0%} of the "
        f"{len(shared)} frames with both",
        share * len(shared) / len(shorter),
        len(shared),
        (Crop(first.track_id, frame), Crop(second.track_id, frame)),
        Merge(longer.track_id, shorter.track_id, "keep first"),
        f"duplicate:{first.sources[0]}:{second.sources[0]}",
    )


def _ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``(N,)`` IoUs of N pairs of boxes."""
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def _discontinuity(switch: Switch) -> str:
    """What suggests a switch, as a predicate."""
    before, after = switch.trajectory.frames[switch.position - 1 : switch.position + 1].tolist()
    if after - before > 1:
        return f"is missing for {after - before - 1} frames"
    return "jumps or changes size"


def _suggestion(
    kind: Kind,
    reason: str,
    chance: float,
    regions: int,
    crops: tuple[Crop, Crop],
    accept: Edit,
    key: str,
    implied_by: str | None = None,
) -> Suggestion:
    gain = chance * regions * _CORRECTED.get(kind, 1.0)
    return Suggestion(key, kind, reason, chance, gain, crops, accept, implied_by)


def _crop(track: Trajectory, position: int) -> Crop:
    return Crop(track.track_id, int(track.frames[position]))


def _first(track: Trajectory) -> Crop:
    return _crop(track, 0)


def _last(track: Trajectory) -> Crop:
    return _crop(track, -1)
