"""How likely courses are one identity, or none: logistic models, fitted to tracks with truth.

``benchmarks/review_queue.py fit`` made the numbers, from clips that the queue is not scored on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from queryinst_vis.review.courses import Link

Model = Mapping[str, float]
"""A weight for each of the values that ``terms`` or ``terms_of_track`` give."""

JOIN: Model = {
    "bias": 0.36,
    "gap": -0.413,
    "distance": 0.328,
    "miss": -1.812,
    "size": -0.454,
    "unlikeness": -1.393,
}
"""Of two tracks, that they are one."""

BREAK: Model = {"bias": -4.998, "gap": 1.735, "distance": 1.967, "miss": 2.566, "size": 2.242}
"""Of two successive observations of a track, that its identity changes between them."""

SWAP: Model = {"bias": -1.035, "breaks": 0.242, "joins": 0.728, "crosses": 0.863, "both": -1.052}
"""Of a place in a track and another track, that they exchange identities there."""

WEAK: Model = {"bias": 2.522, "length": -0.658, "score": -4.075}
"""Of a track, that it shows nothing."""

_USUAL_UNLIKENESS = 0.7  # where it is not known
_CERTAIN = 30.0  # of a logit; beyond, floats do not tell its probability from 0 or 1


def terms(found: Link) -> dict[str, float]:
    """What ``JOIN`` and ``BREAK`` weigh: a link's values, none of which can outweigh all others."""
    unlikeness = _USUAL_UNLIKENESS if math.isnan(found.unlikeness) else found.unlikeness
    return {
        "bias": 1.0,
        "gap": math.log(found.gap),
        "distance": math.log1p(min(found.distance, 10.0)),
        "miss": math.log1p(min(found.miss, 10.0)),
        "size": min(found.size, 2.0),
        "unlikeness": unlikeness,
    }


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
