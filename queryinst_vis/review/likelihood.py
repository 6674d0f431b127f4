"""Logistic models of the errors of tracks, fitted to tracks with ground truth.

The weights are the output of ``benchmarks/review_fit.py``, on clips that the ranking of the
suggestions is not evaluated on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from queryinst_vis.review.trajectories import Link

Model = Mapping[str, float]
"""Weights by feature."""

LINK: Model = {
    "bias": 0.197,
    "gap": -0.384,
    "distance": 0.177,
    "motion_error": -1.824,
    "size_change": -0.503,
    "embedding_distance": -1.265,
}
"""Two tracks are the same identity."""

LINK_WITH_COLOUR: Model = {
    "bias": -4.213,
    "gap": -0.208,
    "distance": -0.164,
    "motion_error": -1.195,
    "size_change": 0.002,
    "embedding_distance": -0.836,
    "colour_distance": -2.204,
}
"""``LINK`` if the colours of both are known."""

SWITCH: Model = {
    "bias": -2.192,
    "gap": 0.507,
    "distance": -0.408,
    "motion_error": 1.031,
    "size_change": 0.776,
}
"""The identity of a track changes between two successive observations."""

SWITCH_WITH_COLOUR: Model = {
    "bias": 0.645,
    "gap": 0.317,
    "distance": -0.671,
    "motion_error": 0.327,
    "size_change": -0.344,
    "colour_distance": 1.12,
}
"""``SWITCH`` if the colours on both sides are known."""

SWAP: Model = {
    "bias": 0.196,
    "switch": 0.693,
    "takeover": 0.962,
    "exchange": 0.656,
    "is_mutual": -0.919,
}
"""A track takes over the identity of another one at a candidate switch."""

FALSE_POSITIVE: Model = {"bias": 2.522, "length": -0.658, "score": -4.075}
"""A track is a false positive."""

_TYPICAL_EMBEDDING_DISTANCE = 0.7  # used if unknown
_TYPICAL_COLOUR_DISTANCE = 0.3
_COLOUR_NOISE = 0.02  # colour distance of an instance to itself
_MAX_LOGIT = 30.0  # beyond, the probability is 0 or 1 in floating point


def link_features(link: Link) -> dict[str, float]:
    """The features of the ``LINK`` and ``SWITCH`` models, limited so that none dominates."""
    embedding, colour = link.embedding_distance, link.colour_distance
    return {
        "bias": 1.0,
        "gap": math.log(link.gap),
        "distance": math.log1p(min(link.distance, 10.0)),
        "motion_error": math.log1p(min(link.motion_error, 10.0)),
        "size_change": min(link.size_change, 2.0),
        "embedding_distance": _TYPICAL_EMBEDDING_DISTANCE if math.isnan(embedding) else embedding,
        "colour_distance": math.log(
            (_TYPICAL_COLOUR_DISTANCE if math.isnan(colour) else colour) + _COLOUR_NOISE
        ),
    }


def link_probability(link: Link) -> float:
    """The probability that two tracks are the same identity, 0..1."""
    model = LINK if math.isnan(link.colour_distance) else LINK_WITH_COLOUR
    return probability(model, link_features(link))


def switch_probability(link: Link) -> float:
    """The probability that the identity of a track changes between its two parts, 0..1."""
    model = SWITCH if math.isnan(link.colour_distance) else SWITCH_WITH_COLOUR
    return probability(model, link_features(link))


def swap_features(switch: float, takeover: float, exchange: float | None) -> dict[str, float]:
    """The features of ``SWAP``.

    Args:
        switch: probability that the identity of the track changes there.
        takeover: probability that the track then has the identity of the other one.
        exchange: probability that the other one then has the identity of the track; None: the other
            one ends.
    """
    return {
        "bias": 1.0,
        "switch": _logit(switch),
        "takeover": _logit(takeover),
        "exchange": 0.0 if exchange is None else _logit(exchange),
        "is_mutual": float(exchange is not None),
    }


def track_features(scores: np.ndarray) -> dict[str, float]:
    """The features of ``FALSE_POSITIVE``; ``scores`` are the ``(N,)`` scores of a track, 0..1."""
    return {"bias": 1.0, "length": math.log(len(scores)), "score": float(scores.mean())}


def probability(model: Model, features: Mapping[str, float]) -> float:
    """The probability that a model predicts, 0..1; features without a weight are ignored."""
    logit = sum(weight * features[name] for name, weight in model.items())
    return 1 / (1 + math.exp(-min(max(logit, -_MAX_LOGIT), _MAX_LOGIT)))


def _logit(chance: float) -> float:
    return math.log(chance / (1 - chance))
