"""What the tracker remembers: one embedding and one box a track, never a mask."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from queryinst_vis.structures import Detections


def _no_ids() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass
class Memory:
    """The complete state of online association; a fresh one is the state before a video.

    The tensors live on the CPU and hold one row per remembered track ("slot"), in order of birth.

    Attributes:
        ids: ``(M,)`` int64 identities.
        embeddings: ``(M, D)`` float32 of the last detection of each track.
        boxes: ``(M, 4)`` float32 xyxy of the last detection, in pixels of the original frame.
        labels: ``(M,)`` int64 class of the first detection: the birth label never changes.
        last_seen: ``(M,)`` int64 index of the last frame that shows the track.
        frame: index of the current frame; -1 before the first.
        next_id: the next identity to give. It only grows: forgotten identities are not reused.
    """

    ids: Tensor = field(default_factory=_no_ids)
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    boxes: Tensor = field(default_factory=lambda: torch.empty(0, 4))
    labels: Tensor = field(default_factory=_no_ids)
    last_seen: Tensor = field(default_factory=_no_ids)
    frame: int = -1
    next_id: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def refresh(self, slots: list[int], detections: Detections) -> None:
        """Show each of the distinct ``slots`` its new detection; ids and labels stay."""
        self.embeddings[slots] = detections.embeddings
        self.boxes[slots] = detections.boxes
        self.last_seen[slots] = self.frame

    def append(self, detections: Detections) -> Tensor:
        """Begin a track for every detection and return their ``(N,)`` new ids."""
        count = len(detections)
        ids = torch.arange(self.next_id, self.next_id + count)
        self.next_id += count
        # The first detections decide how wide the embeddings are.
        known = self.embeddings.reshape(len(self), detections.embeddings.shape[1])
        self.embeddings = torch.cat([known, detections.embeddings])
        self.ids = torch.cat([self.ids, ids])
        self.boxes = torch.cat([self.boxes, detections.boxes])
        self.labels = torch.cat([self.labels, detections.labels])
        self.last_seen = torch.cat([self.last_seen, torch.full((count,), self.frame)])
        return ids

    def forget(self, expire_after: int | None, max_tracks: int | None) -> None:
        """Drop tracks unseen for ``expire_after`` frames, then the longest unseen of too many.

        Of equally long unseen tracks the youngest goes first: it has the least history.
        """
        unseen = self.frame - self.last_seen
        keep = torch.arange(len(self))
        if expire_after is not None:
            keep = keep[unseen < expire_after]
        if max_tracks is not None:
            freshest_first = unseen[keep].argsort(stable=True)
            keep = keep[freshest_first[:max_tracks]].sort().values
        if len(keep) < len(self):
            self.ids = self.ids[keep]
            self.embeddings = self.embeddings[keep]
            self.boxes = self.boxes[keep]
            self.labels = self.labels[keep]
            self.last_seen = self.last_seen[keep]
