"""Fit the models of ``queryinst_vis.review.likelihood`` to tracks with ground truth.

    python benchmarks/review_fit.py

The clips are none of those on which ``review_queue.py`` scores. Videos come from
QUERYINST_VIS_DATA/data, and their tracks, by the weights ``people``, stay in ``--cache``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from review_oracle import FITTED, Clip, confirmed, courses_of, gt_of, open_clip
from scipy.optimize import minimize

from queryinst_vis.review import Merge, Split, Swap
from queryinst_vis.review.courses import Course, link
from queryinst_vis.review.likelihood import Model, terms, terms_of_track
from queryinst_vis.review.places import LONGEST_GAP, Place, place_at, places_of, swap_at

Samples = list[tuple[dict[str, float], bool]]
"""Values that a model weighs, and whether its event is there."""


def fit(names: list[str], cache: Path) -> dict[str, Model]:
    """The numbers of ``likelihood``, by logistic regression with a small penalty.

    ``SWAP`` weighs what the other models say, so it is right if those are in the package already.
    """
    joins: Samples = []
    breaks: Samples = []
    swaps: Samples = []
    weak: Samples = []
    for name in names:
        with (clip := open_clip(name, cache)).session as session:
            session.colours.measure(np.arange(len(session.index.frames)))
            courses = list(courses_of(clip, session.state).values())
            for course in courses:
                gt = gt_of(clip, course)
                weak.append((terms_of_track(course.scores), bool((gt >= 0).mean() < 0.5)))
                joins += _joins(clip, course, courses)
                breaks += _breaks(clip, course)
                swaps += _swaps(clip, course, courses)
    return {
        "JOIN": _fit(joins, {"contrast"}),
        "JOIN_IN_COLOUR": _fit(joins, set()),
        "BREAK": _fit(breaks, {"unlikeness", "contrast"}),
        "BREAK_IN_COLOUR": _fit(breaks, {"unlikeness"}),
        "SWAP": _fit(swaps, set()),
        "WEAK": _fit(weak, set()),
    }


def seen_places(course: Course) -> list[Place]:
    """The places of a track that the queue asks about, with the colours of the regions."""
    return [place_at(course, place.at) for place in places_of(course)]


def _joins(clip: Clip, course: Course, others: list[Course]) -> Samples:
    state = clip.session.state
    return [
        (
            terms(link(course, other)),
            confirmed(clip, state, Merge(course.track_id, other.track_id)),
        )
        for other in others
        if 0 < int(other.frames[0]) - int(course.frames[-1]) <= LONGEST_GAP
    ]


def _breaks(clip: Clip, course: Course) -> Samples:
    state = clip.session.state
    return [
        (
            terms(link(place.before, place.after)),
            confirmed(clip, state, Split(course.track_id, place.frame)),
        )
        for place in seen_places(course)
    ]


def _swaps(clip: Clip, course: Course, others: list[Course]) -> Samples:
    found: Samples = []
    state = clip.session.state
    for place in seen_places(course):
        for other in others:
            values = None if other is course else swap_at(place, other)
            if values is not None:
                action = Swap(course.track_id, other.track_id, place.frame)
                found.append((values, confirmed(clip, state, action)))
    return found


def _fit(samples: Samples, without: set[str]) -> Model:
    names = [name for name in samples[0][0] if name not in without]
    values = np.array([[each[name] for name in names] for each, _ in samples])
    signs = np.array([1.0 if event else -1.0 for _, event in samples])

    def loss(weights: np.ndarray) -> float:
        fits = np.logaddexp(0, -signs * (values @ weights)).sum()
        return float(fits + 0.3 * (weights[1:] ** 2).sum())

    found = minimize(loss, np.zeros(len(names)), method="BFGS").x
    print(f"{len(samples)} samples, {int((signs > 0).sum())} of them events")
    return dict(zip(names, found.round(3).tolist(), strict=True))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", metavar="NAME", default=list(FITTED))
    parser.add_argument("--cache", type=Path, default=Path("work/review_queue"), metavar="DIR")
    arguments = parser.parse_args()
    for name, model in fit(arguments.clips, arguments.cache).items():
        print(name, model)


if __name__ == "__main__":
    main()
