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
    """The ``(N, D)`` embeddings that a rule reads; ``Tracker`` makes sure that there are some.

    Raises:
        ValueError: there are none.
    """
    if detections.embeddings is None:
        raise ValueError("this rule reads embeddings, and these Detections have none")
    return detections.embeddings


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
        last_times: ``(M,)`` float64 time of that frame in seconds; 0 where times are unknown.
        frame: index of the current frame; -1 before the first.
        time: of the current frame in seconds; 0 where times are unknown.
        next_id: the next identity to give. It only grows: forgotten identities are not reused.
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
        """Raise an InputError for embeddings of another width than those remembered."""
        known, given = self.embeddings.shape[1], embeddings_of(detections).shape[1]
        if len(self) and known != given:
            raise InputError(
                f"tracking: embeddings have {given} channels, those in memory {known};"
                " reset() the tracker between models"
            )

    def begin_frame(self, time: float | None, expire_seconds: float | None) -> Tensor:
        """Go on to the next frame, and drop tracks that are unseen for that many seconds by then.

        Returns:
            The slots that were kept, as they were numbered before.

        Args:
            time: of the frame in seconds; None: unknown.
            expire_seconds: None drops nothing.
        """
        self.frame += 1
        self.time = 0.0 if time is None else time
        if expire_seconds is None:
            return torch.arange(len(self))
        return self.keep(torch.where(self.time - self.last_times < expire_seconds)[0])

    def refresh(self, slots: list[int], detections: Detections) -> None:
        """Update tracks at distinct ``slots`` by their new detections; ids and labels stay."""
        # numpy's views of the tensors: assigning a few rows takes a fraction of PyTorch's time
        self.embeddings.numpy()[slots] = embeddings_of(detections)
        self.boxes.numpy()[slots] = detections.boxes
        self.last_seen.numpy()[slots] = self.frame
        self.last_times.numpy()[slots] = self.time

    def append(self, detections: Detections) -> Tensor:
        """Begin a track for every detection and return their ``(N,)`` new ids."""
        count, embeddings = len(detections), embeddings_of(detections)
        ids = torch.arange(self.next_id, self.next_id + count)
        self.next_id += count
        # The first detections decide how wide the embeddings are.
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
        """Drop tracks unseen for ``expire_after`` frames, then the longest unseen of too many.

        Of equally long unseen tracks the youngest goes first: it has the least history.

        Returns:
            The slots that were kept, as they were numbered before.
        """
        keep = torch.arange(len(self))
        if expire_after is not None:
            keep = keep[self.frame - self.last_seen < expire_after]
        if max_tracks is not None and len(keep) > max_tracks:
            freshest_first = (self.frame - self.last_seen[keep]).argsort(stable=True)
            keep = keep[freshest_first[:max_tracks]].sort().values
        return self.keep(keep)

    def keep(self, slots: Tensor) -> Tensor:
        """Drop all tracks but those of the given slots, which are in order; return the slots."""
        if len(slots) < len(self):
            self.ids = self.ids[slots]
            self.embeddings = self.embeddings[slots]
            self.boxes = self.boxes[slots]
            self.labels = self.labels[slots]
            self.last_seen = self.last_seen[slots]
            self.last_times = self.last_times[slots]
        return slots
