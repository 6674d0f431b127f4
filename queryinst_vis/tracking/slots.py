"""Rules with a ``Memory``: each track is a slot, and a function assigns the slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.association import DROPPED, NEW
from queryinst_vis.tracking.memory import Memory

Associate = Callable[[Detections, Memory, TrackingConfig], list[int]]
"""``(detections, memory, settings) -> slots``: for every detection its slot in the memory (M > 0
tracks), ``NEW`` or ``DROPPED``. If several detections have the same slot, the last one gets the
track, which is updated with it only."""


class SlotAssociator:
    """Association with a pure function of the detections and the memory.

    Args:
        associate: the function.
        settings: passed to the function; includes the limits of the memory.

    Attributes:
        memory: the state between frames.
    """

    def __init__(self, associate: Associate, settings: TrackingConfig) -> None:
        self.memory = Memory()
        self._associate = associate
        self._settings = settings

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """See ``Associator``.

        Raises:
            InputError: embeddings of another width than those remembered.
        """
        if observed.embeddings is None:  # a rule without embeddings
            observed = replace(observed, embeddings=torch.empty(len(observed), 0))
        self.memory.check_width(observed)
        self.memory.begin_frame(time, self._settings.expire_seconds)
        if len(self.memory):
            slots = self._associate(observed, self.memory, self._settings)
        else:
            slots = [NEW] * len(observed)
        raw_ids = self._remember(observed, slots)
        self.memory.forget(self._settings.expire_after, self._settings.max_tracks)
        return raw_ids

    def forget(self) -> None:
        """Drop all tracks; identities are not reused."""
        self.memory.forget(None, max_tracks=0)

    def _remember(self, observed: Detections, slots: list[int]) -> Tensor:
        """Update the memory; return the ``(N,)`` raw ids."""
        owners = {slot: row for row, slot in enumerate(slots) if slot >= 0}  # the last one keeps it
        born = [row for row, slot in enumerate(slots) if slot == NEW]
        known = self.memory.ids.tolist()
        raw_ids = torch.tensor(
            [known[slot] if slot >= 0 else DROPPED for slot in slots], dtype=torch.int64
        )
        if owners:
            is_all = len(owners) == len(observed)
            rows = observed if is_all else observed[list(owners.values())]
            self.memory.refresh(list(owners), rows)
        if born:
            raw_ids[born] = self.memory.append(observed[born])
        return raw_ids
