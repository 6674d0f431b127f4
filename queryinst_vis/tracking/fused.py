"""The fused rule: overlap, motion and appearance in one calibrated score, in two stages.

Each cue alone fails in some cases: appearance for people dressed alike, motion after occlusion,
overlap at low frame rates. A logistic model of all cues gives the log odds that a detection and
a track are the same object; a detection without positive odds is a new object. The
assignment is one-to-one, in two stages as in ByteTrack: high-score detections first, then low-score
ones, which may continue a track near its predicted box but never start one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.association import DROPPED, NEW, one_to_one, within_reach
from queryinst_vis.tracking.kalman import BoxFilter
from queryinst_vis.tracking.memory import Memory, embeddings_of

FARTHEST = 10.0
"""Distances are clipped to this many standard deviations."""

NEWEST = 0.3
"""Weight of the latest detection in the moving average of a track's embedding."""

_WEAK_OVERLAP = 0.5  # minimum IoU of a low-score detection with the predicted box of its track
_WEAK_GAP = 2  # maximum number of frames since that track was last seen
_BIRTH_OVERLAP = 0.5  # maximum IoU of a new track with a tracked detection


@dataclass
class FusedTracks(Memory):
    """Tracks, each with an averaged unit embedding and a motion filter.

    Attributes:
        motion: the filters, slot by slot.
    """

    motion: BoxFilter = field(default_factory=BoxFilter)

    def refresh(self, slots: list[int], detections: Detections) -> None:
        """As ``Memory.refresh``, with unit embeddings, which are averaged."""
        mixed = torch.lerp(self.embeddings[slots], embeddings_of(detections), NEWEST)
        super().refresh(slots, replace(detections, embeddings=F.normalize(mixed, dim=1)))
        self.motion.update(slots, detections.boxes.double().numpy())

    def append(self, detections: Detections) -> Tensor:
        """As ``Memory.append``, with unit embeddings."""
        self.motion.append(detections.boxes.double().numpy())
        return super().append(detections)

    def keep(self, slots: Tensor) -> Tensor:
        """As ``Memory.keep``."""
        self.motion.keep(slots.numpy())
        return super().keep(slots)


class FusedAssociator:
    """Assigns identities to tracks after ``min_hits`` detections.

    Args:
        settings: uses ``fused``, ``high_score``, ``min_hits``, ``max_jump`` and the limits of the
            memory.

    Attributes:
        memory: the tracks; its ids include unconfirmed tracks and are not the identities.
    """

    def __init__(self, settings: TrackingConfig) -> None:
        self.memory = FusedTracks()
        self._settings = settings
        self._hits = np.zeros(0, dtype=np.int64)
        self._identities: dict[int, int] = {}  # of confirmed tracks, by id in the memory
        self._next_identity = 0
        self._begins = True  # the next frame is the first of a video or shot
        self._time: float | None = None
        self._intervals: deque[float] = deque(maxlen=30)  # seconds between the last frames

    def assign(self, observed: Detections, time: float | None) -> Tensor:
        """See ``Associator``.

        Raises:
            InputError: embeddings of another width than those remembered.
        """
        observed = replace(observed, embeddings=F.normalize(embeddings_of(observed), dim=1))
        self.memory.check_width(observed)
        self._keep(self.memory.begin_frame(time, self._settings.expire_seconds))
        self.memory.motion.predict(self._frames_to(time))
        strong = observed.scores.numpy() >= (self._settings.high_score or 0.0)
        slots = self._match(observed, strong)
        born = np.flatnonzero(strong & (slots == DROPPED) & ~_repeats(observed.boxes, slots >= 0))
        self._continue(observed, slots)
        slots[born] = self._begin(observed[torch.from_numpy(born)])
        self._begins = False
        ids = [self._identity(slot) if slot >= 0 else DROPPED for slot in slots.tolist()]
        self._forget_unseen()
        return torch.tensor(ids, dtype=torch.int64)

    def forget(self) -> None:
        """Drop all tracks; identities are not reused."""
        self._keep(self.memory.forget(None, max_tracks=0))
        self._begins = True

    def _frames_to(self, time: float | None) -> float:
        """Time since the previous frame, in units of the median frame interval."""
        previous, self._time = self._time, time
        if time is None or previous is None:
            return 1.0
        self._intervals.append(time - previous)
        return self._intervals[-1] / median(self._intervals)

    def _match(self, observed: Detections, strong: np.ndarray) -> np.ndarray:
        """``(N,)`` slot of each detection that continues a track, otherwise ``DROPPED``."""
        slots = np.full(len(observed), DROPPED)
        if not len(self.memory) or not len(observed):
            return slots
        same = (observed.labels[:, None] == self.memory.labels).numpy()
        near = within_reach(observed, self.memory, self._settings.max_jump).numpy()
        cues = pair_cues(observed, self.memory)
        odds = np.where(same & near, log_odds(cues, self._settings), -np.inf)
        slots[strong] = choose(odds[strong], least=0.0)
        unseen = (self.memory.frame - self.memory.last_seen).numpy()
        free = (unseen <= _WEAK_GAP) & ~np.isin(np.arange(len(self.memory)), slots)
        overlap = np.where(same & free, cues["overlap"], 0.0)
        slots[~strong] = choose(overlap[~strong], least=_WEAK_OVERLAP)
        return slots

    def _continue(self, observed: Detections, slots: np.ndarray) -> None:
        """Update the matched tracks."""
        rows = np.flatnonzero(slots >= 0)
        if len(rows):
            self.memory.refresh(slots[rows].tolist(), observed[torch.from_numpy(rows)])
            self._hits[slots[rows]] += 1

    def _begin(self, born: Detections) -> np.ndarray:
        """Start a track for each of the K detections; return their slots."""
        known = len(self.memory)
        # in the first frame of a shot all objects are new and are confirmed immediately
        hits = self._settings.min_hits if self._begins else 1
        self.memory.append(born)
        self._hits = np.concatenate([self._hits, np.full(len(born), hits)])
        return np.arange(known, len(self.memory))

    def _identity(self, slot: int) -> int:
        """Identity of a track; ``DROPPED`` until it is confirmed."""
        key = int(self.memory.ids[slot])
        if key not in self._identities and self._hits[slot] >= self._settings.min_hits:
            self._identities[key] = self._next_identity
            self._next_identity += 1
        return self._identities.get(key, DROPPED)

    def _forget_unseen(self) -> None:
        # unconfirmed tracks are dropped after a frame without a detection
        seen = (self.memory.last_seen == self.memory.frame).numpy()
        confirmed = np.array([key in self._identities for key in self.memory.ids.tolist()], bool)
        self._keep(self.memory.keep(torch.from_numpy(np.flatnonzero(seen | confirmed))))
        self._keep(self.memory.forget(self._settings.expire_after, self._settings.max_tracks))

    def _keep(self, slots: Tensor) -> None:
        """Drop the state of tracks that have just been dropped."""
        if len(slots) < len(self._hits):
            self._hits = self._hits[slots.numpy()]
            alive = set(self.memory.ids.tolist())
            self._identities = {key: i for key, i in self._identities.items() if key in alive}


def pair_cues(observed: Detections, tracks: FusedTracks) -> dict[str, np.ndarray]:
    """Cues for detection i and track j: ``(N, M)`` values by the name of their weight.

    ``overlap``: IoU with the predicted box. ``distance``: Mahalanobis distance of the centre from
    the predicted one, at most ``FARTHEST``. ``similarity``: cosine of unit embeddings. ``gap``:
    log of the frames since the track was last seen.
    """
    boxes = observed.boxes.double().numpy()
    distances = np.minimum(tracks.motion.distances(boxes), FARTHEST)
    gap = np.log((tracks.frame - tracks.last_seen).double().numpy())
    return {
        "overlap": overlaps(boxes, tracks.motion.boxes()),
        "distance": distances,
        "similarity": (embeddings_of(observed) @ tracks.embeddings.T).double().numpy(),
        "gap": np.broadcast_to(gap, distances.shape),
    }


def log_odds(cues: dict[str, np.ndarray], settings: TrackingConfig) -> np.ndarray:
    """``(N, M)`` log odds that detection and track are the same object."""
    weights = settings.fused
    return weights.bias + sum(getattr(weights, name) * cue for name, cue in cues.items())


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``(N, M)`` IoU of ``(N, 4)`` and ``(M, 4)`` xyxy boxes; 0 between empty ones."""
    iou = box_iou(torch.from_numpy(first), torch.from_numpy(second))
    return iou.nan_to_num(0).numpy()


def choose(scores: np.ndarray, least: float) -> np.ndarray:
    """``(N,)`` columns, or ``DROPPED``: the assignment with the maximum total above ``least``.

    Args:
        scores: ``(N, M)``; pairs with scores below ``least`` are never assigned.
        least: finite.
    """
    chosen = np.array(one_to_one(F.pad(torch.from_numpy(scores), (1, 0), value=least)), np.int64)
    return np.where(chosen == NEW, DROPPED, chosen)


def _repeats(boxes: Tensor, tracked: np.ndarray) -> np.ndarray:
    """``(N,)`` bool: overlaps a tracked detection by more than ``_BIRTH_OVERLAP``."""
    every = boxes.double().numpy()
    return np.any(overlaps(every, every[tracked]) > _BIRTH_OVERLAP, axis=1)
