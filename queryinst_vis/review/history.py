"""Unlimited undo and redo; each step stores only its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from queryinst_vis.errors import InputError
from queryinst_vis.review.actions import Action, Redo, Undo
from queryinst_vis.review.edits import Change, perform
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.state import ReviewedTrack, ReviewState


@dataclass(frozen=True)
class _Step:
    """The difference between two states.

    Attributes:
        tracks: new versions of the tracks that differ, by id; None: the track is removed.
        rest: the new state without tracks.
    """

    tracks: Mapping[int, ReviewedTrack | None]
    rest: ReviewState


def _step(start: ReviewState, goal: ReviewState) -> _Step:
    changed = {
        track_id: goal.tracks.get(track_id)
        for track_id in {**start.tracks, **goal.tracks}
        if start.tracks.get(track_id) is not goal.tracks.get(track_id)
    }
    return _Step(changed, replace(goal, tracks={}))


def _applied(state: ReviewState, step: _Step) -> ReviewState:
    merged = {**state.tracks, **step.tracks}
    tracks = {id_: track for id_, track in sorted(merged.items()) if track is not None}
    return replace(step.rest, tracks=tracks)


class History:
    """The state of a review with its undo and redo steps.

    Args:
        index: index of the results.
        state: state before the first action.

    Attributes:
        state: state after all actions so far.
    """

    def __init__(self, index: TrackIndex, state: ReviewState) -> None:
        self._index = index
        self.state = state
        self._back: list[_Step] = []
        self._forward: list[_Step] = []

    def copy(self) -> History:
        """An independent copy."""
        other = History(self._index, self.state)
        other._back, other._forward = self._back.copy(), self._forward.copy()
        return other

    @property
    def can_undo(self) -> bool:
        """Whether there is an action to undo."""
        return bool(self._back)

    @property
    def can_redo(self) -> bool:
        """Whether there is an action to redo."""
        return bool(self._forward)

    def do(self, action: Action) -> Change:
        """Apply an action, or undo or redo one.

        Raises:
            ConflictError, InputError: the action is invalid; the state is unchanged.
        """
        if isinstance(action, Undo):
            return self._move(self._back, self._forward, "undo")
        if isinstance(action, Redo):
            return self._move(self._forward, self._back, "redo")
        change = perform(self._index, self.state, action)
        self._back.append(_step(change.state, self.state))
        self._forward.clear()
        self.state = change.state
        return change

    def _move(self, steps: list[_Step], opposite: list[_Step], what: str) -> Change:
        if not steps:
            raise InputError(f"there is nothing to {what}")
        before, self.state = self.state, _applied(self.state, steps.pop())
        opposite.append(_step(self.state, before))
        return Change(self.state)
