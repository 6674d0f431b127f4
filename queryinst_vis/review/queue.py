"""What is most likely wrong with the tracks of a video: a queue of suggestions, the best first.

Fragments that belong together, identities that change, and both at once (a track goes on as
another one) are found by how well courses continue one another (``likelihood``); duplicates,
weak tracks and gaps by overlap, length and score.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.review.actions import Delete, Edit, Fill, Merge, Split, Swap
from queryinst_vis.review.colours import Colours
from queryinst_vis.review.courses import Course, course_of, embeddings_of_run, link
from queryinst_vis.review.index import TrackIndex
from queryinst_vis.review.likelihood import (
    SWAP,
    WEAK,
    join_probability,
    probability,
    terms_of_track,
)
from queryinst_vis.review.places import (
    LONGEST_GAP,
    SUSPICIOUS,
    Place,
    place_at,
    places_of,
    rows_to_compare,
    swap_at,
)
from queryinst_vis.review.session import ReviewSession
from queryinst_vis.review.state import ReviewState
from queryinst_vis.review.suggestions import Crop, Kind, Suggestion

_USUAL_MISS = 10  # frames for which tracks are often missed
_SHARED = 3  # frames that fragments of one identity may share
_LEAST_GAIN = 0.25  # regions; less is not worth a look
_WORTH = {"fragments": 0.6, "swapped": 0.45, "changed identity": 0.35}
"""Share of the regions concerned that were right afterwards, on the clips of the fit: a part that
is split off may still have to be joined to another track."""

_DOUBT = 0.3  # by which each dismissal makes it less likely that two tracks are one identity
_NONE: frozenset[str] = frozenset()
_SAMPLED = 50  # frames in which two tracks are compared
_WEAK = 0.3  # probability from which on a track may show nothing
_SAME = 0.5  # IoU of boxes from which on two tracks may be one


def suggest(session: ReviewSession) -> list[Suggestion]:
    """What is most likely wrong, by descending expected gain, without what was dismissed.

    Args:
        session: the tracks; its ``run`` has their embeddings, if the weights have any.

    Example::

        from queryinst_vis.review import ReviewSession, suggest

        with ReviewSession.open("out/street") as session:
            for suggestion in suggest(session)[:20]:
                print(f"{suggestion.kind}, gain {suggestion.gain:.1f}: {suggestion.reason}")
    """
    return suggestions_for(session.index, session.state, session.run, session.colours)


def suggestions_for(
    index: TrackIndex,
    state: ReviewState,
    run: Mapping[str, Any] | None,
    colours: Colours | None = None,
) -> list[Suggestion]:
    """``suggest`` for a state that no session need have come to.

    Args:
        index: of the results.
        state: the tracks.
        run: the content of ``run.json``; None: there is none.
        colours: of the regions; None: they are not compared.
    """
    embeddings = embeddings_of_run(run)
    courses = [course_of(index, track, embeddings, colours) for track in state.tracks.values()]
    scene = _Scene([course for course in courses if len(course)])
    found = (
        *scene.fragments(),
        *scene.changes(),
        *scene.duplicates(),
        *scene.weak(),
        *scene.gaps(),
    )
    return ranked(found, state.dismissed)


def ranked(found: Iterable[Suggestion], dismissed: frozenset[str]) -> list[Suggestion]:
    """Suggestions by descending expected gain.

    Args:
        found: the suggestions, as they are made where nothing is dismissed.
        dismissed: ids of those that were dismissed. They are left out, and whatever else compares
            the same two tracks becomes less likely.
    """
    parted = Counter(pair for pair in map(_compared, dismissed) if pair)
    doubted = (
        each.doubted(_DOUBT ** parted[_compared(each.id)]) if parted[_compared(each.id)] else each
        for each in found
        if not each.answered_by & dismissed
    )
    return sorted(
        (each for each in doubted if each.gain >= _LEAST_GAIN),
        key=lambda each: (-each.gain, each.id),
    )


def _compared(suggestion: str) -> frozenset[str]:
    """The two tracks of the results that a suggestion is about, by its id; empty: not two."""
    kind, *places = suggestion.split(":")
    return frozenset(place.split("@")[0] for place in places) if kind in ("join", "swap") else _NONE


class _Scene:
    """The tracks of a video, looked at for each kind of error.

    Args:
        courses: of all tracks, with at least one observation each.
    """

    def __init__(self, courses: list[Course]) -> None:
        self._courses = sorted(courses, key=lambda course: int(course.frames[0]))
        self._starts = np.array([course.frames[0] for course in self._courses])
        self._ends = np.array([course.frames[-1] for course in self._courses])
        by_boxes = [(course, place) for course in self._courses for place in places_of(course)]
        _measure(self._courses, [place for _, place in by_boxes])
        self._places = [place_at(course, place.at) for course, place in by_boxes]

    def fragments(self) -> Iterator[Suggestion]:
        """Pairs of tracks that may be one."""
        for later in self._courses:
            for earlier in self._near(int(later.frames[0])):
                if _may_be_one(earlier, later):
                    yield from _fragments(earlier, later)

    def changes(self) -> Iterator[Suggestion]:
        """Tracks that may become another identity, which may be that of another track."""
        for place in self._places:
            course = place.course
            yield _suggestion(
                "changed identity",
                f"track {course.track_id} {_jump(place)} before frame {place.frame}",
                place.probability,
                place.regions,
                (_last(place.before), _first(place.after)),
                Split(course.track_id, place.frame),
                f"change:{place.key}",
            )
            if place.probability < SUSPICIOUS:
                continue
            for other in self._near(place.frame):
                if other is not course:
                    yield from _swapped(place, other)

    def duplicates(self) -> Iterator[Suggestion]:
        """Pairs of tracks that may be one and the same all the time."""
        for number, first in enumerate(self._courses):
            stop = int(np.searchsorted(self._starts, first.frames[-1], side="right"))
            for second in self._courses[number + 1 : stop]:
                yield from _duplicates(first, second)

    def weak(self) -> Iterator[Suggestion]:
        """Tracks that may show nothing."""
        for course in self._courses:
            chance = probability(WEAK, terms_of_track(course.scores))
            if chance < _WEAK:
                continue
            best = int(course.scores.argmax())
            yield _suggestion(
                "weak",
                f"track {course.track_id} is in {len(course)} frames only, with a score of "
                f"{course.scores[best]:.2f} at most",
                chance,
                len(course),
                (_crop(course, best), _crop(course, len(course) // 2)),
                Delete(course.track_id),
                f"weak:{course.sources[0]}@{course.frames[0]}",
            )

    def gaps(self) -> Iterator[Suggestion]:
        """Frames in the middle of a track in which it may have been missed."""
        for course in self._courses:
            steps = np.diff(course.frames)
            for before in np.flatnonzero((steps > 1) & (steps <= LONGEST_GAP)).tolist():
                first, last = (int(frame) for frame in course.frames[before : before + 2])
                if ((course.by_hand > first) & (course.by_hand < last)).any():
                    continue
                place = place_at(course, before + 1)
                missing = last - first - 1
                yield _suggestion(
                    "gap",
                    f"track {course.track_id} is missing in {missing} frames, {first + 1} to "
                    f"{last - 1}",
                    (1 - place.probability) / (1 + missing / _USUAL_MISS),
                    missing,
                    (_crop(course, before), _crop(course, before + 1)),
                    Fill(course.track_id, ((first + 1, last - 1),)),
                    f"gap:{course.sources[before]}@{first}",
                )

    def _near(self, frame: int) -> list[Course]:
        """Tracks that begin before a frame, and end not too long before it."""
        stop = int(np.searchsorted(self._starts, frame))
        chosen = np.flatnonzero(self._ends[:stop] >= frame - LONGEST_GAP)
        return [self._courses[number] for number in chosen.tolist()]


def _measure(courses: list[Course], places: list[Place]) -> None:
    """Measure the colours that are to be compared; a warning if the video cannot be read."""
    colours = courses[0].colours if courses else None
    if colours is not None:
        try:
            colours.measure(rows_to_compare(courses, places))
        except InputError as error:
            warnings.warn(f"colours are not compared: {error}", InputWarning, stacklevel=2)


def _may_be_one(first: Course, second: Course) -> bool:
    """Whether two tracks are seldom together, and no person has parted them."""
    if first.origins & second.origins:
        return False
    if first.frames[-1] < second.frames[0] or second.frames[-1] < first.frames[0]:
        return True
    return len(np.intersect1d(first.frames, second.frames, assume_unique=True)) <= _SHARED


def _fragments(earlier: Course, later: Course) -> Iterator[Suggestion]:
    """``later`` may go on where ``earlier`` ends or pauses."""
    pause = int(np.searchsorted(earlier.frames, later.frames[0]))
    before, rest = earlier.part(0, pause), earlier.part(pause)
    found = link(before, later)
    chance = join_probability(found)
    behind = rest.part(int(np.searchsorted(rest.frames, later.frames[-1], side="right")))
    if len(rest):  # the earlier one goes on
        if not len(behind):
            return
        chance = min(chance, join_probability(link(later, behind)))
    shares = len(rest) > len(behind)
    longer, shorter = (earlier, later) if len(earlier) >= len(later) else (later, earlier)
    yield _suggestion(
        "fragments",
        f"track {later.track_id} begins {found.gap} frames after and {found.distance:.1f} heights "
        f"from where track {earlier.track_id} {'pauses' if len(rest) else 'ends'}",
        chance,
        len(shorter),
        (_last(before), _first(later)),
        Merge(longer.track_id, shorter.track_id, "keep first" if shares else None),
        f"join:{before.sources[-1]}@{before.frames[-1]}:{later.sources[0]}@{later.frames[0]}",
    )


def _swapped(place: Place, other: Course) -> Iterator[Suggestion]:
    """From a place on a track may be another one, which may go on as the first, or end."""
    values = swap_at(place, other)
    if values is None:
        return
    at = int(np.searchsorted(other.frames, place.frame))
    course, before, after = place.course, other.part(0, at), other.part(at)
    count = min(len(before), len(place.after)) + min(place.at, len(after))
    does = "changes places with" if len(after) else "goes on as"
    yield _suggestion(
        "swapped",
        f"track {course.track_id} {_jump(place)} before frame {place.frame} and perhaps {does} "
        f"track {other.track_id}",
        probability(SWAP, values),
        count,
        (_last(before), _first(place.after)),
        Swap(course.track_id, other.track_id, place.frame),
        f"swap:{place.key}:{other.sources[at - 1]}",
        f"change:{place.key}",
    )


def _duplicates(first: Course, second: Course) -> Iterator[Suggestion]:
    shared, own, others = np.intersect1d(
        first.frames, second.frames, assume_unique=True, return_indices=True
    )
    if not len(shared):
        return
    sample = np.unique(np.linspace(0, len(shared) - 1, _SAMPLED).astype(int))
    ious = _ious(first.boxes[own[sample]], second.boxes[others[sample]])
    share = float((ious >= _SAME).mean())
    if share < _SAME:
        return
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    best = int(own[sample][int(ious.argmax())])
    frame = int(first.frames[best])
    yield _suggestion(
        "duplicate",
        f"tracks {first.track_id} and {second.track_id} are in one place in {share:.0%} of the "
        f"{len(shared)} frames that show both",
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


def _jump(place: Place) -> str:
    """What is odd about a place."""
    before, after = place.course.frames[place.at - 1 : place.at + 1].tolist()
    if after - before > 1:
        return f"is missing for {after - before - 1} frames"
    return "jumps or changes its size"


def _suggestion(
    kind: Kind,
    reason: str,
    chance: float,
    regions: int,
    crops: tuple[Crop, Crop],
    accept: Edit,
    key: str,
    implied: str | None = None,
) -> Suggestion:
    gain = chance * regions * _WORTH.get(kind, 1.0)
    return Suggestion(key, kind, reason, chance, gain, crops, accept, implied)


def _crop(course: Course, at: int) -> Crop:
    return Crop(course.track_id, int(course.frames[at]))


def _first(course: Course) -> Crop:
    return _crop(course, 0)


def _last(course: Course) -> Crop:
    return _crop(course, -1)
