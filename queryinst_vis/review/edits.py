"""The effect of each action on the tracks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import list_names, nearest_name
from queryinst_vis.review.actions import (
    Check,
    Delete,
    Dismiss,
    Draw,
    Edit,
    Fill,
    Merge,
    Ranges,
    SetClass,
    SetName,
    Split,
    Swap,
)
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.interpolation import draw_region, fill_gaps
from queryinst_vis.review.pieces import (
    Piece,
    Pieces,
    Stored,
    difference,
    joined,
    spans_of,
    union,
    within,
    without,
)
from queryinst_vis.review.polygons import region_of
from queryinst_vis.review.state import ReviewedTrack, ReviewState, class_of, frames_of


class ConflictError(InputError):
    """A merge of two tracks that are both present in some frames, without a decision for these.

    Attributes:
        first, second: ids of the tracks.
        frames: ``(N,)`` undecided frames, ascending.
    """

    def __init__(self, first: int, second: int, frames: np.ndarray) -> None:
        spans = [f"{a}-{b - 1}" if b - a > 1 else f"{a}" for a, b in spans_of(frames)]
        listed = ", ".join(spans[:10]) + (", ..." if len(spans) > 10 else "")
        super().__init__(
            f"tracks {first} and {second} are both in {len(frames)} frames ({listed}); choose with "
            "`decide` or `decide_frames` which region to keep"
        )
        self.first, self.second, self.frames = first, second, frames

    def at(self, where: str) -> ConflictError:
        """The error with ``where`` as prefix of its message, if not empty."""
        if where:
            self.args = (f"{where}: {self}",)
        return self


@dataclass(frozen=True)
class Change:
    """The result of an action.

    Attributes:
        state: the tracks after the action.
        created: id of the new track, or None.
        regions: number of regions removed or created.
    """

    state: ReviewState
    created: int | None = None
    regions: int = 0


def perform(index: TrackIndex, state: ReviewState, action: Edit) -> Change:
    """Apply an action to a state.

    Args:
        index: index of the results.
        state: the tracks before the action.
        action: the action.

    Raises:
        ConflictError: a merge without a decision for frames with both tracks.
        InputError: a track or frame does not exist, or the action would change nothing.
    """
    return _EDITS[type(action)](index, state, action)


def _merge(index: TrackIndex, state: ReviewState, action: Merge) -> Change:
    first, second = _two_tracks(state, action.first, action.second)
    shared = np.intersect1d(frames_of(index, first.pieces), frames_of(index, second.pieces))
    dropped = _decide(index, action, shared)
    pieces = []
    for own, other, decisions in (
        (first.pieces, second.pieces, ("keep second", "drop both")),
        (second.pieces, first.pieces, ("keep first", "drop both")),
    ):
        lost = spans_of(shared[np.isin(dropped, decisions)])
        pieces.append(without(_without_empty_frames(index, own, other), lost))
    merged = replace(
        first,
        pieces=joined(*pieces),
        class_name=first.class_name or second.class_name,
        name=first.name or second.name,
        is_checked=first.is_checked and second.is_checked,
    )
    count = len(shared) + int((dropped == "drop both").sum())
    return Change(_with_tracks(index, state, merged, without=second.track_id), regions=count)


def _decide(index: TrackIndex, action: Merge, shared: np.ndarray) -> np.ndarray:
    """``(N,)`` decisions for the frames with both tracks."""
    decisions = np.full(len(shared), action.decide or "", dtype="U11")
    for first, last, decision in action.decide_frames:
        _check_frame(index, last)
        decisions[(shared >= first) & (shared <= last)] = decision
    undecided = shared[decisions == ""]
    if len(undecided):
        raise ConflictError(action.first, action.second, undecided)
    return decisions


def _without_empty_frames(index: TrackIndex, pieces: Pieces, others: Pieces) -> Pieces:
    """Pieces without frames that have no region, where they overlap with others."""
    trimmed: list[Piece] = []
    for piece in pieces:
        if isinstance(piece.source, Stored) and within(others, piece.start, piece.stop):
            spans = spans_of(frames_of(index, (piece,)))
            trimmed += (Piece(start, stop, piece.source) for start, stop in spans)
        else:
            trimmed.append(piece)
    return tuple(trimmed)


def _split(index: TrackIndex, state: ReviewState, action: Split) -> Change:
    track = state.track(action.track)
    _check_frame(index, action.frame)
    before, after = _cut(track.pieces, action.frame, len(index))
    frame = f"frame {action.frame}"
    for part, where in ((before, f"before {frame}"), (after, f"from {frame} on")):
        if not len(frames_of(index, part)):
            raise InputError(f"track {track.track_id} has no region {where}: nothing to split")
    new = ReviewedTrack(state.next_id, after, track.class_name)
    state = replace(state, next_id=state.next_id + 1)
    changed = _with_tracks(index, state, replace(track, pieces=before), new, origin=track)
    return Change(changed, created=new.track_id)


def _swap(index: TrackIndex, state: ReviewState, action: Swap) -> Change:
    first, second = _two_tracks(state, action.first, action.second)
    _check_frame(index, action.frame)
    first_before, first_after = _cut(first.pieces, action.frame, len(index))
    second_before, second_after = _cut(second.pieces, action.frame, len(index))
    if not first_after + second_after:
        raise InputError(
            f"neither track has a region from frame {action.frame} on: nothing to swap"
        )
    return Change(
        _with_tracks(
            index,
            state,
            replace(first, pieces=joined(first_before, second_after)),
            replace(second, pieces=joined(second_before, first_after)),
        )
    )


def _delete(index: TrackIndex, state: ReviewState, action: Delete) -> Change:
    track = state.track(action.track)
    if action.frames is None:
        count = len(frames_of(index, track.pieces))
        return Change(_with_tracks(index, state, without=track.track_id), regions=count)
    spans = _spans(index, action.frames)
    count = sum(len(frames_of(index, within(track.pieces, *span))) for span in spans)
    if not count:
        raise InputError(f"track {track.track_id} has no region in these frames")
    kept = replace(track, pieces=without(track.pieces, spans))
    return Change(_with_tracks(index, state, kept), regions=count)


def _set_class(index: TrackIndex, state: ReviewState, action: SetClass) -> Change:
    track = state.track(action.track)
    state = _with_class(state, action.class_name, action.is_new)
    return Change(_with_tracks(index, state, replace(track, class_name=action.class_name)))


def _with_class(state: ReviewState, name: str, is_new: bool) -> ReviewState:
    if name in state.class_names:
        return state
    if not name.strip():
        raise InputError("a class needs a name")
    if not is_new:
        nearest = nearest_name(name, state.class_names)
        hint = f"did you mean '{nearest}'? " if nearest else ""
        raise InputError(
            f"class '{name}' is unknown; {hint}there are {list_names(state.class_names)}; to add "
            "it, set `is_new`"
        )
    return replace(state, class_names=(*state.class_names, name))


def _set_name(index: TrackIndex, state: ReviewState, action: SetName) -> Change:
    track = state.track(action.track)
    return Change(_with_tracks(index, state, replace(track, name=action.name.strip())))


def _check(index: TrackIndex, state: ReviewState, action: Check) -> Change:
    if action.track is not None:
        if action.frames is not None:
            raise InputError("mark either a track or frames as checked, not both")
        track = replace(state.track(action.track), is_checked=action.checked)
        return Change(_with_tracks(index, state, track))
    checked = state.checked
    everything = ((0, len(index)),)
    for span in everything if action.frames is None else _spans(index, action.frames):
        checked = (union if action.checked else difference)(checked, *span)
    return Change(replace(state, checked=checked))


def _draw(index: TrackIndex, state: ReviewState, action: Draw) -> Change:
    _check_frame(index, action.frame)
    region_of(action.polygons, index.size, "draw")
    if action.track is not None:
        if action.class_name is not None:
            raise InputError(
                "`class_name` is for new tracks; use the action 'class' to change "
                "the class of a track"
            )
        track, created = state.track(action.track), None
    else:
        if action.class_name is None:
            raise InputError("a new track needs a `class_name`")
        state = _with_class(state, action.class_name, is_new=False)
        track, created = ReviewedTrack(state.next_id, (), action.class_name), state.next_id
        state = replace(state, next_id=state.next_id + 1)
    pieces, count = draw_region(index, track.pieces, action)
    return Change(_with_tracks(index, state, replace(track, pieces=pieces)), created, count)


def _fill(index: TrackIndex, state: ReviewState, action: Fill) -> Change:
    track = state.track(action.track)
    pieces, count = fill_gaps(index, track.pieces, tuple(_spans(index, action.frames)))
    if not count:
        raise InputError(
            f"track {track.track_id} has no gap between two regions in these frames: nothing to "
            "interpolate"
        )
    return Change(_with_tracks(index, state, replace(track, pieces=pieces)), regions=count)


def _dismiss(index: TrackIndex, state: ReviewState, action: Dismiss) -> Change:
    return Change(replace(state, dismissed=state.dismissed | {action.suggestion}))


def _with_tracks(
    index: TrackIndex,
    state: ReviewState,
    *changed: ReviewedTrack,
    without: int | None = None,
    origin: ReviewedTrack | None = None,
) -> ReviewState:
    """The state with changed tracks, reduced to their pieces with regions.

    A track that keeps no region of the results keeps its class; a new one that of its ``origin``.
    """
    settled = []
    for track in changed:
        pieces = tuple(piece for piece in track.pieces if len(frames_of(index, (piece,))))
        name, before = track.class_name, state.tracks.get(track.track_id, origin)
        if name is None and before and not any(isinstance(p.source, Stored) for p in pieces):
            name = class_of(index, state, before)
        settled.append(replace(track, pieces=pieces, class_name=name))
    return state.with_tracks(*settled, without=without)


def _two_tracks(state: ReviewState, first: int, second: int) -> tuple[ReviewedTrack, ReviewedTrack]:
    if first == second:
        raise InputError(f"track {first} is given twice; give two different tracks")
    return state.track(first), state.track(second)


def _cut(pieces: Pieces, frame: int, length: int) -> tuple[Pieces, Pieces]:
    return within(pieces, 0, frame), within(pieces, frame, length)


def _check_frame(index: TrackIndex, frame: int) -> None:
    if frame >= len(index):
        raise InputError(f"frame {frame} does not exist; there are frames 0 to {len(index) - 1}")


def _spans(index: TrackIndex, ranges: Ranges) -> list[tuple[int, int]]:
    for _, last in ranges:
        _check_frame(index, last)
    spans: tuple[tuple[int, int], ...] = ()
    for first, last in ranges:
        spans = union(spans, first, last + 1)
    return list(spans)


_EDITS: Mapping[type[Edit], Callable[[TrackIndex, ReviewState, Any], Change]] = {
    Merge: _merge,
    Split: _split,
    Swap: _swap,
    Delete: _delete,
    SetClass: _set_class,
    SetName: _set_name,
    Check: _check,
    Draw: _draw,
    Fill: _fill,
    Dismiss: _dismiss,
}
