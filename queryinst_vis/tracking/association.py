"""Association scores and the rules that turn them into assignments.

A rule is a function ``(detections, memory, weights) -> slots``. It says for every detection,
in order, which slot of the memory it belongs to, or ``NEW``, or ``DROPPED``. A later detection
with the slot of an earlier one has taken the track over: the track is shown the later one only.
A new rule is one function here and one line in ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.structures import Detections
from queryinst_vis.tracking.memory import Memory

DROPPED = -1
"""The detection lost its track to a better one of the same frame."""
NEW = -2
"""The detection shows an object that the memory does not know."""


@dataclass(frozen=True)
class ScoreWeights:
    """Weights of the cues beside the embeddings (alpha, beta, gamma of MaskTrack R-CNN)."""

    score: float = 1.0
    iou: float = 2.0
    label: float = 10.0


def inclusive_iou(first: Tensor, second: Tensor) -> Tensor:
    """``(N, M)`` IoU of ``(N, 4)`` and ``(M, 4)`` xyxy boxes whose last pixels count.

    A box from x0 to x1 is x1 - x0 + 1 pixels wide, as in the original MaskTrack R-CNN.
    """
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = (bottom_right - top_left + 1).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1) for boxes in (first, second)]
    return intersection / (areas[0][:, None] + areas[1][None, :] - intersection)


def association_scores(detections: Detections, memory: Memory, weights: ScoreWeights) -> Tensor:
    """How well each detection fits "new object" (column 0) and each slot (MaskTrack R-CNN).

    ``log p + w_score * log(score) + w_iou * IoU + w_label * [same label]`` where p is the softmax
    over a constant 0 and the dot products with the remembered embeddings, as the track head is
    trained. A new object has IoU 0 with itself and the right label.

    Args:
        detections: N detections with embeddings, on the CPU.
        memory: M > 0 remembered tracks.
        weights: of the cues.

    Returns:
        ``(N, M + 1)`` float32.
    """
    similarity = F.pad(detections.embeddings @ memory.embeddings.T, (1, 0))
    # A score of exactly 0 must not wipe out the other cues.
    confidence = detections.scores.clamp(min=torch.finfo(torch.float32).tiny).log()
    iou = inclusive_iou(detections.boxes, memory.boxes)
    same_label = (detections.labels[:, None] == memory.labels[None, :]).float()
    return (
        similarity.log_softmax(dim=1)
        + weights.score * confidence[:, None]
        + weights.iou * F.pad(iou, (1, 0))
        + weights.label * F.pad(same_label, (1, 0), value=1.0)
    )


def masktrack(detections: Detections, memory: Memory, weights: ScoreWeights) -> list[int]:
    """MaskTrack R-CNN's greedy rule: every detection, in order, wants its best-fitting track.

    A track already taken in this frame goes to the later detection if that fits strictly
    better; otherwise the later detection is dropped. There is no second choice. Tracks born in
    this frame are not in the memory yet, so its later detections cannot join them.
    """
    best = association_scores(detections, memory, weights).max(dim=1)
    taken: dict[int, float] = {}
    slots = []
    for score, column in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        slot = column - 1
        if column == 0:
            slots.append(NEW)
        elif slot not in taken or score > taken[slot]:
            taken[slot] = score
            slots.append(slot)
        else:
            slots.append(DROPPED)
    return slots


Rule = Callable[[Detections, Memory, ScoreWeights], list[int]]

RULES: dict[str, Rule] = {
    "masktrack": masktrack,
}
