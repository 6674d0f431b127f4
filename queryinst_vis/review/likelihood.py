"""How likely courses are one identity, or none: logistic models, fitted to tracks with truth.

``benchmarks/review_fit.py`` made the numbers, from clips that the queue is not scored on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from queryinst_vis.review.courses import Link

Model = Mapping[str, float]
"""A weight for each of the values that ``terms`` or ``terms_of_track`` give."""

JOIN: Model = {
    "bias": 0.197,
    "gap": -0.384,
    "distance": 0.177,
    "miss": -1.824,
    "size": -0.503,
    "unlikeness": -1.265,
}
"""Of two tracks, that they are one."""

JOIN_IN_COLOUR: Model = {
    "bias": -4.213,
    "gap": -0.208,
    "distance": -0.164,
    "miss": -1.195,
    "size": 0.002,
    "unlikeness": -0.836,
    "contrast": -2.204,
}
"""The same where their colours are known."""

BREAK: Model = {"bias": -2.192, "gap": 0.507, "distance": -0.408, "miss": 1.031, "size": 0.776}
"""Of two successive observations of a track, that its identity changes between them."""

BREAK_IN_COLOUR: Model = {
    "bias": 0.645,
    "gap": 0.317,
    "distance": -0.671,
    "miss": 0.327,
    "size": -0.344,
    "contrast": 1.12,
}
"""The same where the colours on both sides are known."""

SWAP: Model = {"bias": 0.196, "breaks": 0.693, "joins": 0.962, "crosses": 0.656, "both": -0.919}
"""Of a place in a track and another track, that they exchange identities there."""

WEAK: Model = {"bias": 2.522, "length": -0.658, "score": -4.075}
"""Of a track, that it shows nothing."""

_USUAL_UNLIKENESS = 0.7  # where it is not known
_USUAL_CONTRAST = 0.3
_LEAST_CONTRAST = 0.02  # of regions that are the same, but for noise
_CERTAIN = 30.0  # of a logit; beyond, floats do not tell its probability from 0 or 1


def terms(found: Link) -> dict[str, float]:
    """What models of links weigh: its values, none of which can outweigh all others."""
    unlikeness = _USUAL_UNLIKENESS if math.isnan(found.unlikeness) else found.unlikeness
    contrast = _USUAL_CONTRAST if math.isnan(found.contrast) else found.contrast
    return {
        "bias": 1.0,
        "gap": math.log(found.gap),
        "distance": math.log1p(min(found.distance, 10.0)),
        "miss": math.log1p(min(found.miss, 10.0)),
        "size": min(found.size, 2.0),
        "unlikeness": unlikeness,
        "contrast": math.log(contrast + _LEAST_CONTRAST),
    }


def join_probability(found: Link) -> float:
    """Of two tracks, that they are one."""
    return probability(JOIN if math.isnan(found.contrast) else JOIN_IN_COLOUR, terms(found))


def break_probability(found: Link) -> float:
    """Of a place in a track, that its identity changes there."""
    return probability(BREAK if math.isnan(found.contrast) else BREAK_IN_COLOUR, terms(found))


def terms_of_swap(breaks: float, joins: float, crosses: float | None) -> dict[str, float]:
    """What ``SWAP`` weighs.

    Args:
        breaks: probability that the identity of the one changes, by ``BREAK``.
        joins: probability that the other goes on as what comes after, by ``JOIN``.
        crosses: probability that what came before goes on as the other; None: that one ends.
    """
    return {
        "bias": 1.0,
        "breaks": _logit(breaks),
        "joins": _logit(joins),
        "crosses": 0.0 if crosses is None else _logit(crosses),
        "both": float(crosses is not None),
    }


def terms_of_track(scores: np.ndarray) -> dict[str, float]:
    """What ``WEAK`` weighs: ``scores`` are ``(N,)``, 0..1, of the frames that show the track."""
    return {"bias": 1.0, "length": math.log(len(scores)), "score": float(scores.mean())}


def probability(model: Model, values: Mapping[str, float]) -> float:
    """Of a model's event, 0..1; values that the model does not weigh are left out."""
    logit = sum(weight * values[name] for name, weight in model.items())
    return 1 / (1 + math.exp(-min(max(logit, -_CERTAIN), _CERTAIN)))


def _logit(chance: float) -> float:
    return math.log(chance / (1 - chance))
