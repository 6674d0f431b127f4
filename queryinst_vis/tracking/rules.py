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
    """The state of a rule within one video; a new one is the state before its first frame."""

    @property
    def memory(self) -> Memory | None:
        """The tracks, or None if the rule has another kind of state."""

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """Assign identities to the detections of the next frame.

        Args:
            observed: N detections on the CPU, finite, float32, with the embeddings
                that the rule uses and without masks.
            time: of the frame in seconds, later than that of the previous frame; None: unknown.

        Returns:
            ``(N,)`` int64 identities, -1 for detections without one. New ones are numbered from
            0 and never reused. If several detections have the same identity, the last one keeps
            it.
        """

    def forget(self) -> None:
        """Drop all tracks, as at a hard cut; identities are not reused."""


@dataclass(frozen=True)
class Rule:
    """An association rule.

    Attributes:
        begin: makes the associator of a new video; ``settings.match_threshold`` is filled in.
        embedding: the embeddings that the rule uses; None: only boxes, scores and labels.
        match_threshold: the default; None: the rule has no threshold.
    """

    begin: Callable[[TrackingConfig], Associator]
    embedding: Embedding | None = "track_head"
    match_threshold: float | None = None


def slot_rule(
    associate: Associate,
    embedding: Embedding | None = "track_head",
    match_threshold: float | None = None,
) -> Rule:
    """A rule that assigns detections to the slots of a ``Memory`` with a function.

    Args:
        associate: the function, as ``slots.Associate`` says.
        embedding, match_threshold: as for ``Rule``.
    """
    return Rule(partial(SlotAssociator, associate), embedding, match_threshold)


RULES: dict[str, Rule] = {
    "masktrack": slot_rule(masktrack),
    "hungarian": slot_rule(hungarian),
    "bisoftmax": slot_rule(bisoftmax),
    # With the bundled weights, 95 % of query pairs of the same object in consecutive frames are
    # more similar than this. Those of different objects often are, too: it is only a lower bound.
    "query": slot_rule(query, embedding="query", match_threshold=0.8),
    "fused": Rule(FusedAssociator),
    # for these two the threshold is an IoU with the predicted box
    "bytetrack": Rule(bytetrack, embedding=None, match_threshold=0.1),
    "ocsort": Rule(ocsort, embedding=None, match_threshold=0.3),
}

DEFAULT = "masktrack"
"""The default rule of models with a track head (paper 3.5)."""
BOXES_ALONE = "bytetrack"
"""The default rule of models without a track head."""
NMS_OF_BOXES_ALONE = 0.5
"""Its IoU threshold for NMS."""


def find_rule(name: str | None) -> Rule:
    """The rule with this name, built in or from an installed package; None: the paper's.

    Raises:
        InputError: unknown name, or a package's entry point is not a ``Rule``.
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
    """The config with a default rule that suits the model.

    Box-based tracking treats every duplicate as another object, so it uses NMS unless
    ``inference.nms_threshold`` is set.

    Raises:
        InputError: unknown rule, or one that needs a track head that the model lacks.
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
