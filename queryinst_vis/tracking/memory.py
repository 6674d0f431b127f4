"""The tracker's memory: one embedding and one box per track, no masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections


def _no_ids() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


def embeddings_of(detections: Detections) -> Tensor:
    """The ``(N, D)`` embeddings used by a rule; ``Tracker`` ensures that they exist.

    Raises:
        ValueError: there are none.
    """
    if detections.embeddings is None:
        raise ValueError("this rule reads embeddings, and these Detections have none")
    return detections.embeddings


@dataclass
class Memory:
    """The state of online association; a new one is the state before a video.

    The tensors are on the CPU and have one row per track ("slot"), in order of creation.

    Attributes:
        ids: ``(M,)`` int64 identities.
        embeddings: ``(M, D)`` float32 of the last detection of each track.
        boxes: ``(M, 4)`` float32 xyxy of the last detection, in pixels of the original frame.
        labels: ``(M,)`` int64 class of the first detection, which never changes.
        last_seen: ``(M,)`` int64 index of the last frame with the track.
        last_times: ``(M,)`` float64 time of that frame in seconds; 0 if times are unknown.
        frame: index of the current frame; -1 before the first.
        time: of the current frame in seconds; 0 if times are unknown.
        next_id: the next new identity. Identities are not reused.
    """

    ids: Tensor = field(default_factory=_no_ids)
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    boxes: Tensor = field(default_factory=lambda: torch.empty(0, 4))
    labels: Tensor = field(default_factory=_no_ids)
    last_seen: Tensor = field(default_factory=_no_ids)
    last_times: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    frame: int = -1
    time: float = 0.0
    next_id: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def check_width(self, detections: Detections) -> None:
        """Raise an InputError if the embedding width differs from that in memory."""
        known, given = self.embeddings.shape[1], embeddings_of(detections).shape[1]
        if len(self) and known != given:
            raise InputError(
                f"tracking: embeddings have {given} channels, those in memory {known};"
                " reset() the tracker between models"
            )

    def begin_frame(self, time: float | None, expire_seconds: float | None) -> Tensor:
        """Advance to the next frame, and drop tracks unseen for ``expire_seconds``.

        Args:
            time: of the frame in seconds; None: unknown.
            expire_seconds: None: no limit.

        Returns:
            The previous indices of the slots that were kept.
        """
        self.frame += 1
        self.time = 0.0 if time is None else time
        if expire_seconds is None:
            return torch.arange(len(self))
        return self.keep(torch.where(self.time - self.last_times < expire_seconds)[0])

    def refresh(self, slots: list[int], detections: Detections) -> None:
        """Update the tracks at distinct ``slots`` with new detections; ids and labels are kept."""
        # numpy views of the tensors: assigning a few rows is much faster than in PyTorch
        self.embeddings.numpy()[slots] = embeddings_of(detections)
        self.boxes.numpy()[slots] = detections.boxes
        self.last_seen.numpy()[slots] = self.frame
        self.last_times.numpy()[slots] = self.time

    def append(self, detections: Detections) -> Tensor:
        """Start a track for every detection and return the ``(N,)`` new ids."""
        count, embeddings = len(detections), embeddings_of(detections)
        ids = torch.arange(self.next_id, self.next_id + count)
        self.next_id += count
        # the first detections determine the embedding width
        known = self.embeddings.reshape(len(self), embeddings.shape[1])
        self.embeddings = torch.cat([known, embeddings])
        self.ids = torch.cat([self.ids, ids])
        self.boxes = torch.cat([self.boxes, detections.boxes])
        self.labels = torch.cat([self.labels, detections.labels])
        self.last_seen = torch.cat([self.last_seen, torch.full((count,), self.frame)])
        times = torch.full((count,), self.time, dtype=torch.float64)
        self.last_times = torch.cat([self.last_times, times])
        return ids

    def forget(self, expire_after: int | None, max_tracks: int | None) -> Tensor:
        """Drop tracks unseen for ``expire_after`` frames, and the least recently seen of too many.

        Among tracks last seen in the same frame, the newest are dropped first.

        Returns:
            The previous indices of the slots that were kept.
        """
        keep = torch.arange(len(self))
        if expire_after is not None:
            keep = keep[self.frame - self.last_seen < expire_after]
        if max_tracks is not None and len(keep) > max_tracks:
            freshest_first = (self.frame - self.last_seen[keep]).argsort(stable=True)
            keep = keep[freshest_first[:max_tracks]].sort().values
        return self.keep(keep)

    def keep(self, slots: Tensor) -> Tensor:
        """Keep only the tracks of the given slots, which are in order; return the slots."""
        if len(slots) < len(self):
            self.ids = self.ids[slots]
            self.embeddings = self.embeddings[slots]
            self.boxes = self.boxes[slots]
            self.labels = self.labels[slots]
            self.last_seen = self.last_seen[slots]
            self.last_times = self.last_times[slots]
        return slots
