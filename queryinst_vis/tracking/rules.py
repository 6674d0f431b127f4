"""The association rules by name, and the interface of a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from torch import Tensor

from queryinst_vis.config import Config, TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.tracking.association import bisoftmax, hungarian, masktrack, query
from queryinst_vis.tracking.fused import FusedAssociator
from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.motion import bytetrack, ocsort
from queryinst_vis.tracking.slots import Associate, SlotAssociator
from queryinst_vis.utils import plugins


class Associator(Protocol):
    """The state of a rule within one video; a fresh one is the state before its first frame."""

    @property
    def memory(self) -> Memory | None:
        """The remembered tracks, or None where the rule keeps a state of another kind."""

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
    embedding: Embedding | None = "track_head",
    match_threshold: float | None = None,
) -> Rule:
    """The rule that assigns detections to the slots of a ``Memory`` by a function.

    Args:
        associate: the function, as ``slots.Associate`` says.
        embedding, match_threshold: as for ``Rule``.
    """
    return Rule(partial(SlotAssociator, associate), embedding, match_threshold)


RULES: dict[str, Rule] = {
    "masktrack": slot_rule(masktrack),
    "hungarian": slot_rule(hungarian),
    "bisoftmax": slot_rule(bisoftmax),
    # Queries of one object in consecutive frames: 19 of 20 pairs are more alike than this with
    # the weights that ship. Those of different objects are often as alike: it is a floor only.
    "query": slot_rule(query, embedding="query", match_threshold=0.8),
    "fused": Rule(FusedAssociator),
    # Here the threshold is an IoU with a track's predicted box, as these two have it.
    "bytetrack": Rule(bytetrack, embedding=None, match_threshold=0.1),
    "ocsort": Rule(ocsort, embedding=None, match_threshold=0.3),
}

DEFAULT = "masktrack"
"""The rule of models with a track head where none is named (paper 3.5)."""
BOXES_ALONE = "bytetrack"
"""The rule of models without one."""
NMS_OF_BOXES_ALONE = 0.5
"""IoU threshold of the suppression of duplicates that comes with it."""


def find_rule(name: str | None) -> Rule:
    """The rule of that name, ours or an installed package's; None: the paper's.

    Raises:
        InputError: there is none of that name, or a package's is no ``Rule``.
    """
    name = name or DEFAULT
    rule = plugins.find_entry(name, plugins.RULES, "tracking.rule: unknown rule", RULES)
    if not isinstance(rule, Rule):
        raise InputError(
            f"tracking.rule '{name}': its package gives {type(rule).__name__}, not a "
            "queryinst_vis.tracking.Rule"
        )
    return rule


def choose_rule(config: Config, has_track_head: bool) -> Config:
    """The config with a rule that fits the model, where it leaves the rule open.

    Tracking by boxes alone takes every duplicate for another object, so that suppression comes with
    it, unless ``inference.nms_threshold`` is set.

    Raises:
        InputError: it names an unknown rule, or one that reads a track head and there is none.
    """
    tracking, inference = config.tracking, config.inference
    if tracking.rule is None and has_track_head:
        return replace(config, tracking=replace(tracking, rule=DEFAULT))
    if tracking.rule is None:
        if inference.nms_threshold is None:
            inference = replace(inference, nms_threshold=NMS_OF_BOXES_ALONE)
        tracking = replace(tracking, rule=BOXES_ALONE)
        return replace(config, tracking=tracking, inference=inference)
    if find_rule(tracking.rule).embedding == "track_head" and not has_track_head:
        others = [name for name, rule in RULES.items() if rule.embedding != "track_head"]
        raise InputError(
            f"this model has no track head, which tracking.rule={tracking.rule} needs: leave the "
            f"rule out, or choose from: {', '.join(others)}; or train the model on videos with "
            "model.track.enabled=true"
        )
    return config
