"""Candidate identity switches, and the other tracks that may be involved in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from queryinst_vis.review.likelihood import link_probability, swap_features, switch_probability
from queryinst_vis.review.trajectories import ENDPOINT_LENGTH, Trajectory, link

MIN_PROBABILITY = 0.02
"""Probability from which a candidate switch has its colours measured and swaps suggested."""

MAX_GAP = 250
"""Maximum number of frames between two fragments of a track, and in a gap of a track."""

_MAX_CANDIDATES = 12  # per track
_MIN_SPACING = 10  # observations between two candidates of a track
_MAX_FRAMES = 3000  # read from the video for their colours


@dataclass(frozen=True)
class Switch:
    """A possible identity switch: from some observation on, a track may follow another instance.

    Attributes:
        trajectory: the track.
        position: index of the first observation after the switch.
        probability: probability of the switch, 0..1.
    """

    trajectory: Trajectory
    position: int
    probability: float

    @property
    def frame(self) -> int:
        """The frame of the first observation after the switch."""
        return int(self.trajectory.frames[self.position])

    @property
    def key(self) -> str:
        """Identifier by track in the results and frame, unaffected by corrections."""
        return f"{self.trajectory.sources[self.position]}@{self.frame}"

    @cached_property
    def before(self) -> Trajectory:
        """The track before the switch."""
        return self.trajectory.part(0, self.position)

    @cached_property
    def after(self) -> Trajectory:
        """The track after the switch."""
        return self.trajectory.part(self.position)

    @property
    def regions(self) -> int:
        """Number of observations on the shorter side."""
        return min(self.position, len(self.trajectory) - self.position)


def switch_at(trajectory: Trajectory, position: int) -> Switch:
    """The candidate switch of a trajectory before the observation at ``position``."""
    switch = Switch(trajectory, position, 0.0)
    return replace(switch, probability=switch_probability(link(switch.before, switch.after)))


def candidate_switches(trajectory: Trajectory) -> list[Switch]:
    """The most probable identity switches of a track by its boxes, the most probable first.

    Colours are ignored, so that the result does not depend on which of them have been measured.
    """
    trajectory = replace(trajectory, colours=None)
    steps = np.diff(trajectory.frames)
    moved = np.hypot(*np.diff(trajectory.centres, axis=0).T) / trajectory.heights[1:]
    grown = np.abs(np.diff(np.log(trajectory.heights)))
    jump = np.log(np.maximum(steps, 1)) + 3 * np.log1p(moved) + 2 * grown
    jump[np.diff(trajectory.sources) != 0] = -1  # merged by the user
    order = np.argsort(-jump, kind="stable")[: 3 * _MAX_CANDIDATES]
    switches = [switch_at(trajectory, int(step) + 1) for step in order if jump[step] > 0]
    chosen: list[Switch] = []
    for switch in sorted(switches, key=lambda switch: -switch.probability):
        if all(abs(switch.position - other.position) >= _MIN_SPACING for other in chosen):
            chosen.append(switch)
    return chosen[:_MAX_CANDIDATES]


def rows_to_measure(trajectories: Iterable[Trajectory], switches: Iterable[Switch]) -> np.ndarray:
    """``(N,)`` index rows of the regions whose colours are compared.

    These are the ends of tracks, then the surroundings of candidate switches by descending expected
    gain, up to the maximum number of frames.
    """
    parts = [
        part
        for trajectory in trajectories
        for part in (trajectory.part(0, ENDPOINT_LENGTH), trajectory.part(-ENDPOINT_LENGTH))
    ]
    probable = [switch for switch in switches if switch.probability >= MIN_PROBABILITY]
    for switch in sorted(probable, key=lambda switch: -switch.probability * switch.regions):
        start = max(0, switch.position - ENDPOINT_LENGTH)
        parts.append(switch.trajectory.part(start, switch.position + ENDPOINT_LENGTH))
    if not parts:
        return np.zeros(0, dtype=int)
    rows = np.concatenate([part.rows for part in parts])
    frames = np.concatenate([part.frames for part in parts])
    new = np.sort(np.unique(frames, return_index=True)[1])
    return rows[: new[_MAX_FRAMES]] if len(new) > _MAX_FRAMES else rows


def swap_features_at(switch: Switch, other: Trajectory) -> dict[str, float] | None:
    """Features of ``likelihood.SWAP`` for a candidate switch and another track.

    Returns:
        None if they cannot have swapped identities: both are parts of one track of the results, or
        the other track does not start before the switch, or has too long a gap there.
    """
    position = int(np.searchsorted(other.frames, switch.frame))
    before, after = other.part(0, position), other.part(position)
    were_one = switch.trajectory.source_ids & other.source_ids
    if were_one or not len(before) or switch.frame - before.frames[-1] > MAX_GAP:
        return None
    if len(after) and after.frames[0] - switch.frame > MAX_GAP:
        return None
    takeover = link_probability(link(before, switch.after))
    exchange = link_probability(link(switch.before, after)) if len(after) else None
    return swap_features(switch.probability, takeover, exchange)
