"""Where the identity of a track may change, and which tracks may have exchanged theirs there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from queryinst_vis.review.courses import NEAR, Course, link
from queryinst_vis.review.likelihood import break_probability, join_probability, terms_of_swap

SUSPICIOUS = 0.02
"""Probability from which on a place is looked at closely: for its colours, and for swaps."""

LONGEST_GAP = 250
"""Frames over which tracks are taken for fragments of one, and a track for one with a gap."""

_PLACES = 12  # in a track where its identity may change: those where it jumps most
_APART = 10  # observations between two of them
_MOST_FRAMES = 3000  # that are read for their colours


@dataclass(frozen=True)
class Place:
    """Where a track may become another one.

    Attributes:
        course: the track.
        at: the first observation that may be of another identity.
        probability: that it is.
    """

    course: Course
    at: int
    probability: float

    @property
    def frame(self) -> int:
        """Of that observation."""
        return int(self.course.frames[self.at])

    @property
    def key(self) -> str:
        """The same whatever the corrected track is called."""
        return f"{self.course.sources[self.at]}@{self.frame}"

    @cached_property
    def before(self) -> Course:
        """The track before the place."""
        return self.course.part(0, self.at)

    @cached_property
    def after(self) -> Course:
        """The track from the place on."""
        return self.course.part(self.at)

    @property
    def regions(self) -> int:
        """Observations on its shorter side."""
        return min(self.at, len(self.course) - self.at)


def place_at(course: Course, at: int) -> Place:
    """A place by its first observation."""
    place = Place(course, at, 0.0)
    return replace(place, probability=break_probability(link(place.before, place.after)))


def places_of(course: Course) -> list[Place]:
    """Where the boxes of a track suggest that its identity changes, the likeliest first.

    Colours are left out, so that it does not matter which of them have been measured.
    """
    course = replace(course, colours=None)
    steps = np.diff(course.frames)
    moved = np.hypot(*np.diff(course.centres, axis=0).T) / course.heights[1:]
    grown = np.abs(np.diff(np.log(course.heights)))
    jump = np.log(np.maximum(steps, 1)) + 3 * np.log1p(moved) + 2 * grown
    jump[np.diff(course.sources) != 0] = -1  # a person has joined these
    order = np.argsort(-jump, kind="stable")[: 3 * _PLACES]
    places = [place_at(course, int(at) + 1) for at in order if jump[at] > 0]
    chosen: list[Place] = []
    for place in sorted(places, key=lambda place: -place.probability):
        if all(abs(place.at - other.at) >= _APART for other in chosen):
            chosen.append(place)
    return chosen[:_PLACES]


def rows_to_compare(courses: Iterable[Course], places: Iterable[Place]) -> np.ndarray:
    """``(N,)`` rows of regions whose colours are worth knowing.

    Those at the ends of tracks, then those next to places, the most promising first, until they
    are in as many frames as may be read.
    """
    parts = [part for course in courses for part in (course.part(0, NEAR), course.part(-NEAR))]
    suspicious = [place for place in places if place.probability >= SUSPICIOUS]
    for place in sorted(suspicious, key=lambda place: -place.probability * place.regions):
        parts.append(place.course.part(max(0, place.at - NEAR), place.at + NEAR))
    if not parts:
        return np.zeros(0, dtype=int)
    rows = np.concatenate([part.rows for part in parts])
    frames = np.concatenate([part.frames for part in parts])
    new = np.sort(np.unique(frames, return_index=True)[1])
    return rows[: new[_MOST_FRAMES]] if len(new) > _MOST_FRAMES else rows


def swap_at(place: Place, other: Course) -> dict[str, float] | None:
    """What ``likelihood.SWAP`` weighs of a place in a track, and another track.

    Returns:
        None where they cannot have exchanged identities: they were one track, or the other one
        does not begin before the place, or pauses too long there.
    """
    at = int(np.searchsorted(other.frames, place.frame))
    before, after = other.part(0, at), other.part(at)
    were_one = place.course.origins & other.origins
    if were_one or not len(before) or place.frame - before.frames[-1] > LONGEST_GAP:
        return None
    if len(after) and after.frames[0] - place.frame > LONGEST_GAP:
        return None
    joins = join_probability(link(before, place.after))
    crosses = join_probability(link(place.before, after)) if len(after) else None
    return terms_of_swap(place.probability, joins, crosses)
