"""The online tracker: gives the detections of a frame their identities (paper 3.5)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from queryinst_vis.config import TrackingConfig
from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.association import DROPPED, NEW, RULES
from queryinst_vis.tracking.memory import Memory


class Tracker:
    """Online association of detections, one frame after the other.

    Args:
        settings: rule, weights and limits; None: the paper's rule, which never forgets.

    Attributes:
        embedding: which embeddings the rule reads, ``"track_head"`` or ``"query"`` (the
            detector's own).
        memory: everything that is carried from frame to frame.
        last_raw_ids: ``(N,)`` int64 ids that the rule gave to the N detections of the last
            ``update``, on the CPU: -1 for a detection that lost its track to an earlier one,
            while one that was overtaken by a later one still shows the id that it lost.

    Raises:
        InputError: unknown rule, a limit or jump too small, or a threshold out of range or for a
            rule that has none.
    """

    def __init__(self, settings: TrackingConfig | None = None) -> None:
        settings = settings or TrackingConfig()
        _check(settings)
        rule = RULES[settings.rule]
        if settings.match_threshold is None:
            settings = replace(settings, match_threshold=rule.match_threshold)
        self.embedding = rule.embedding
        self._associate = rule.associate
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first of a video, and ids begin at 0."""
        self.memory = Memory()
        self.last_raw_ids = torch.empty(0, dtype=torch.int64)

    def update(self, detections: Detections) -> Detections:
        """Identify the detections of the next frame.

        Args:
            detections: N detections with embeddings, in pixels of the original frame, on any
                device. Their order is the order in which the rule serves them.

        Returns:
            Those with an identity, in the same order and on the same device, with ``track_ids``
            >= 0 and distinct: of several detections with one raw id only the strongest is
            published, i.e. the one with the highest association score, which is also the one
            that the memory keeps.

        Raises:
            InputError: no embeddings, embeddings of another width than those remembered, or
                numbers that are not finite.
        """
        observed = self._observe(detections)
        self.memory.frame += 1
        if len(self.memory):
            slots = self._associate(observed, self.memory, self._settings)
        else:
            slots = [NEW] * len(observed)
        self.last_raw_ids, published = self._remember(observed, slots)
        self.memory.forget(self._settings.expire_after, self._settings.max_tracks)
        track_ids = self.last_raw_ids[published].to(detections.boxes.device)
        return replace(detections[published.to(detections.boxes.device)], track_ids=track_ids)

    def _observe(self, detections: Detections) -> Detections:
        """What association needs of the detections, checked, as float32 on the CPU."""
        if detections.embeddings is None:
            raise InputError(
                "tracking: the detections carry no embeddings; use a model with a track head "
                "(model.track.enabled=true), or the detector's own (tracking.rule=query)"
            )
        observed = Detections(
            boxes=detections.boxes.detach().float().cpu(),
            scores=detections.scores.detach().float().cpu(),
            labels=detections.labels.cpu(),
            image_size=detections.image_size,
            embeddings=detections.embeddings.detach().float().cpu(),
        )
        known, given = self.memory.embeddings.shape[1], observed.embeddings.shape[1]
        if len(self.memory) and known != given:
            raise InputError(
                f"tracking: embeddings have {given} channels, those in memory {known};"
                " reset() the tracker between models"
            )
        for name in ("boxes", "scores", "embeddings"):
            if not getattr(observed, name).isfinite().all():
                raise InputError(
                    f"tracking: frame {self.memory.frame + 1} has {name} that are not finite;"
                    " check the weights and the input"
                )
        return observed

    def _remember(self, observed: Detections, slots: list[int]) -> tuple[Tensor, Tensor]:
        """Update the memory; return the ``(N,)`` raw ids and the rows to publish."""
        owners = {slot: row for row, slot in enumerate(slots) if slot >= 0}  # the last one owns
        born = [row for row, slot in enumerate(slots) if slot == NEW]
        raw_ids = torch.tensor(
            [int(self.memory.ids[slot]) if slot >= 0 else DROPPED for slot in slots],
            dtype=torch.int64,
        )
        if owners:
            self.memory.refresh(list(owners), observed[list(owners.values())])
        if born:
            raw_ids[born] = self.memory.append(observed[born])
        return raw_ids, torch.tensor(sorted([*owners.values(), *born]), dtype=torch.int64)


def _check(settings: TrackingConfig) -> None:
    """Raise an InputError for settings that no rule can work with."""
    if settings.rule not in RULES:
        raise InputError(
            f"tracking.rule: unknown rule '{settings.rule}'; choose from: {', '.join(RULES)}"
        )
    for name in ("score_weight", "iou_weight", "label_weight"):
        if not math.isfinite(getattr(settings, name)):
            raise InputError(f"tracking.{name}: expected a number, got {getattr(settings, name)}")
    if settings.max_jump is not None and not settings.max_jump > 0:
        raise InputError(f"tracking.max_jump: expected null or above 0, got {settings.max_jump}")
    for name in ("expire_after", "max_tracks"):
        limit = getattr(settings, name)
        if limit is not None and limit < 1:
            raise InputError(f"tracking.{name}: expected null or at least 1, got {limit}")
    if settings.match_threshold is None:
        return
    if RULES[settings.rule].match_threshold is None:
        raise InputError(
            f"tracking.match_threshold: rule '{settings.rule}' has none; leave it null"
        )
    if not -1 <= settings.match_threshold <= 1:
        raise InputError(
            f"tracking.match_threshold: expected -1 to 1, got {settings.match_threshold}"
        )
