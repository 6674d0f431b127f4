"""The association rules by name, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.tracking.association import bisoftmax, hungarian, masktrack, query
from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.slots import Associate, SlotAssociator


class Associator(Protocol):
    """The state of a rule within one video; a fresh one is the state before its first frame.

    Attributes:
        memory: the remembered tracks, or None where the rule keeps a state of another kind.
    """

    memory: Memory | None

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """Give the detections of the next frame their identities.

        Args:
            observed: N detections on the CPU, checked to be finite, float32, with the embeddings
                that the rule reads and without masks.
            time: of the frame in seconds, later than the previous frame's; None: unknown.

        Returns:
            ``(N,)`` int64 identities, -1 for detections without one. New ones are numbered from
            0 on and never reused. Of several detections with one identity the last one has
            it; the others lost it.
        """

    def forget(self) -> None:
        """Forget all tracks, as at a hard cut. Identities go on where they were."""


@dataclass(frozen=True)
class Rule:
    """How detections find their tracks.

    Attributes:
        begin: makes the associator of a new video; ``settings.match_threshold`` is filled in.
        embedding: which embeddings the rule reads; None: boxes, scores and labels alone.
        match_threshold: its own, unless the user names another; None: it has no threshold.
    """

    begin: Callable[[TrackingConfig], Associator]
    embedding: Embedding | None = "track_head"
    match_threshold: float | None = None


def slot_rule(
    associate: Associate,
    embedding: Embedding = "track_head",
    match_threshold: float | None = None,
) -> Rule:
    """The rule that assigns detections to the slots of a ``Memory`` by a function."""
    return Rule(partial(SlotAssociator, associate), embedding, match_threshold)


RULES: dict[str, Rule] = {
    "masktrack": slot_rule(masktrack),
    "hungarian": slot_rule(hungarian),
    "bisoftmax": slot_rule(bisoftmax),
    # Queries of one object in consecutive frames: 19 of 20 pairs are more alike than this with
    # the weights that ship. Those of different objects are often as alike: it is a floor only.
    "query": slot_rule(query, embedding="query", match_threshold=0.8),
}
