"""Fit the models of ``queryinst_vis.review.likelihood`` to tracks with ground truth.

    python benchmarks/review_fit.py

The clips are disjoint from those on which ``review_queue.py`` evaluates the suggestions. Videos
are read from QUERYINST_VIS_DATA/data; their tracks, by the weights ``people``, are stored in
``--cache``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from review_oracle import FITTED, Clip, gt_of, is_confirmed, open_clip, trajectories_of
from scipy.optimize import minimize

from queryinst_vis.errors import run_script
from queryinst_vis.review import Merge, Split, Swap
from queryinst_vis.review.likelihood import Model, link_features, track_features
from queryinst_vis.review.switches import (
    MAX_GAP,
    Switch,
    candidate_switches,
    swap_features_at,
    switch_at,
)
from queryinst_vis.review.trajectories import Trajectory, link

Samples = list[tuple[dict[str, float], bool]]
"""Features of a model, and the outcome that it predicts."""


def fit(names: list[str], cache: Path) -> dict[str, Model]:
    """The weights of ``likelihood``, by logistic regression with L2 regularization.

    The package's ``SWITCH`` models select the samples of ``SWITCH``, and its other models predict
    the features of ``SWAP``, so run this again once the new weights are in the package.
    """
    links: Samples = []
    switches: Samples = []
    swaps: Samples = []
    false_positives: Samples = []
    for name in names:
        with (clip := open_clip(name, cache)).session as session:
            session.colours.measure(np.arange(len(session.index.frames)))
            tracks = list(trajectories_of(clip, session.state).values())
            for track in tracks:
                is_wrong = bool((gt_of(clip, track) >= 0).mean() < 0.5)
                false_positives.append((track_features(track.scores), is_wrong))
                links += _links(clip, track, tracks)
                switches += _switches(clip, track)
                swaps += _swaps(clip, track, tracks)
    return {
        "LINK": _fit(links, {"colour_distance"}),
        "LINK_WITH_COLOUR": _fit(links, set()),
        "SWITCH": _fit(switches, {"embedding_distance", "colour_distance"}),
        "SWITCH_WITH_COLOUR": _fit(switches, {"embedding_distance"}),
        "SWAP": _fit(swaps, set()),
        "FALSE_POSITIVE": _fit(false_positives, set()),
    }


def measured_switches(track: Trajectory) -> list[Switch]:
    """The candidate switches of a track, with the colours of the regions."""
    return [switch_at(track, switch.position) for switch in candidate_switches(track)]


def _links(clip: Clip, track: Trajectory, others: list[Trajectory]) -> Samples:
    state = clip.session.state
    return [
        (
            link_features(link(track, other)),
            is_confirmed(clip, state, Merge(track.track_id, other.track_id)),
        )
        for other in others
        if 0 < int(other.frames[0]) - int(track.frames[-1]) <= MAX_GAP
    ]


def _switches(clip: Clip, track: Trajectory) -> Samples:
    state = clip.session.state
    return [
        (
            link_features(link(switch.before, switch.after)),
            is_confirmed(clip, state, Split(track.track_id, switch.frame)),
        )
        for switch in measured_switches(track)
    ]


def _swaps(clip: Clip, track: Trajectory, others: list[Trajectory]) -> Samples:
    samples: Samples = []
    state = clip.session.state
    for switch in measured_switches(track):
        for other in others:
            features = None if other is track else swap_features_at(switch, other)
            if features is not None:
                action = Swap(track.track_id, other.track_id, switch.frame)
                samples.append((features, is_confirmed(clip, state, action)))
    return samples


def _fit(samples: Samples, without: set[str]) -> Model:
    names = [name for name in samples[0][0] if name not in without]
    values = np.array([[each[name] for name in names] for each, _ in samples])
    signs = np.array([1.0 if outcome else -1.0 for _, outcome in samples])

    def loss(weights: np.ndarray) -> float:
        log_loss = np.logaddexp(0, -signs * (values @ weights)).sum()
        return float(log_loss + 0.3 * (weights[1:] ** 2).sum())

    weights = minimize(loss, np.zeros(len(names)), method="BFGS").x
    print(f"{len(samples)} samples, {int((signs > 0).sum())} of them positive")
    return dict(zip(names, weights.round(3).tolist(), strict=True))


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
    run_script(main)
