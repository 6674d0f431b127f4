"""Association scores between detections and tracks, and the assignment rules that use them.

Every rule here scores each detection as "a new object" (column 0) and against each slot of
the memory, and assigns the detections by these scores, greedily or one-to-one:

=========  ======================  ==========  ======================================
rule       embeddings              assignment  other cues
=========  ======================  ==========  ======================================
masktrack  track head              greedy      score, IoU and label, by their weights
hungarian  track head              one to one  IoU and label, by their weights
bisoftmax  track head              one to one  the labels must agree
query      the detector's queries  one to one  none
=========  ======================  ==========  ======================================

With all of them ``max_jump`` can exclude tracks that were last seen too far away.

A new rule of this kind is one function here and one line in ``rules.RULES``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from queryinst_vis.config import TrackingConfig
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.memory import Memory, embeddings_of

DROPPED = -1
"""The detection lost its track to a better detection of the same frame."""
NEW = -2
"""The detection is a new object."""


# Scores


def inclusive_iou(first: Tensor, second: Tensor) -> Tensor:
    """``(N, M)`` IoU of ``(N, 4)`` and ``(M, 4)`` xyxy boxes with inclusive ends.

    A box from x0 to x1 is x1 - x0 + 1 pixels wide, as in the original MaskTrack R-CNN.
    """
    # in numpy: for so few numbers the calls take the time, and PyTorch's take three times as long
    ours, theirs = first.numpy()[:, None], second.numpy()[None]
    top_left = np.maximum(ours[..., :2], theirs[..., :2])
    sides = np.maximum(np.minimum(ours[..., 2:], theirs[..., 2:]) - top_left + 1, 0)
    intersection = sides[..., 0] * sides[..., 1]
    extents = [boxes[..., 2:] - boxes[..., :2] + 1 for boxes in (ours, theirs)]
    areas = [extent[..., 0] * extent[..., 1] for extent in extents]
    return torch.from_numpy(intersection / (areas[0] + areas[1] - intersection))


def association_scores(detections: Detections, memory: Memory, settings: TrackingConfig) -> Tensor:
    """Scores of each detection as "new object" (column 0) and for each slot (MaskTrack R-CNN).

    ``log p + w_score * log(score) + w_iou * IoU + w_label * [same label]`` where p is the softmax
    over a constant 0 and the dot products with the embeddings in memory, as in training. A new
    object counts as IoU 0 and same label.

    Args:
        detections: N detections with embeddings, on the CPU.
        memory: M > 0 remembered tracks.
        settings: with the weights of the cues (alpha, beta, gamma of MaskTrack R-CNN).

    Returns:
        ``(N, M + 1)`` float32.
    """
    similarity = F.pad(embeddings_of(detections) @ memory.embeddings.T, (1, 0))
    scores = similarity.log_softmax(dim=1).numpy()  # numpy: leaves no threads spinning
    # a score of exactly 0 must not override the other cues
    confidence = np.log(np.maximum(detections.scores.numpy(), np.finfo(np.float32).tiny))
    scores += settings.score_weight * confidence[:, None]
    scores[:, 1:] += settings.iou_weight * inclusive_iou(detections.boxes, memory.boxes).numpy()
    scores[:, 0] += settings.label_weight
    scores[:, 1:] += settings.label_weight * _same_label(detections, memory).numpy()
    return torch.from_numpy(scores)


def bisoftmax_scores(detections: Detections, memory: Memory) -> Tensor:
    """Bi-directional softmax of dot products (QDTrack, inference), with "new object".

    The mean of two probabilities: of track j for detection i among the tracks, and of
    detection i for track j among the detections; 0 if the labels differ. Unlike in
    QDTrack, both softmaxes include "none" with the constant 0 of the track head's training, and
    a detection is new if "none" scores best. QDTrack's threshold of 0.5 instead
    requires a memory without duplicates: each duplicate track lowers all probabilities, which
    causes further missed matches.

    Returns:
        ``(N, M + 1)`` probabilities; column 0 is "new object".
    """
    similarity = embeddings_of(detections) @ memory.embeddings.T
    by_detection = F.pad(similarity, (1, 0)).softmax(dim=1)
    by_track = F.pad(similarity, (0, 0, 1, 0)).softmax(dim=0)[1:]
    mutual = (by_detection[:, 1:] + by_track) / 2 * _same_label(detections, memory)
    return torch.cat([by_detection[:, :1], mutual], dim=1)


def cosine_scores(detections: Detections, memory: Memory) -> Tensor:
    """``(N, M)`` cosine similarities of detections and memory, -1..1."""
    return F.normalize(embeddings_of(detections), dim=1) @ F.normalize(memory.embeddings, dim=1).T


def rule_out_jumps(
    scores: Tensor, detections: Detections, memory: Memory, max_jump: float | None
) -> Tensor:
    """The scores with minus infinity where a detection is too far from a slot.

    Args:
        scores: ``(N, M + 1)``; column 0 is "new object", column j + 1 is slot j.
        detections: N detections.
        memory: M > 0 remembered tracks, seen in earlier frames than the current one.
        max_jump: None: no limit.

    Returns:
        ``(N, M + 1)``.
    """
    if max_jump is None:
        return scores
    near = within_reach(detections, memory, max_jump)
    return scores.masked_fill(F.pad(~near, (1, 0)), -torch.inf)


def within_reach(detections: Detections, memory: Memory, max_jump: float | None) -> Tensor:
    """``(N, M)`` bool: whether a detection is within the maximum displacement of a slot.

    The limit is ``max_jump * sqrt(frames since)`` diagonals of the larger box between the centres.
    Displacements of people grow with this square root, like a random walk, for 1 to 40 frames; the
    larger diagonal accounts for boxes shrunk by occlusion. No limit with ``max_jump=None``.
    """
    if max_jump is None:
        return torch.ones((len(detections), len(memory)), dtype=torch.bool)
    distances = torch.cdist(_centres(detections.boxes), _centres(memory.boxes))
    sizes = torch.maximum(_diagonals(detections.boxes)[:, None], _diagonals(memory.boxes))
    return distances <= max_jump * sizes * (memory.frame - memory.last_seen).sqrt()


def _centres(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _diagonals(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).norm(dim=1)


def _same_label(detections: Detections, memory: Memory) -> Tensor:
    """``(N, M)`` float, 1 if the labels are equal."""
    return (detections.labels[:, None] == memory.labels[None, :]).float()


# Assignments


def greedy(scores: Tensor) -> list[int]:
    """MaskTrack R-CNN's assignment: every detection, in order, claims its best track.

    A track already claimed in this frame goes to the later detection if that scores strictly
    higher; otherwise the later detection is dropped. There is no second choice. Tracks started in
    this frame are not in the memory yet and cannot be claimed.

    Args:
        scores: ``(N, M + 1)``; column 0 is "new object", column j + 1 is slot j.

    Returns:
        For each detection a slot, ``NEW`` or ``DROPPED``.
    """
    best = scores.max(dim=1)
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


def one_to_one(scores: Tensor) -> list[int]:
    """The one-to-one assignment with the maximum total score.

    Every detection may be a new object, so none is dropped, and none is assigned to a slot
    that scores lower than "new". Terms that are constant in a row (the detection score) have no
    effect, since every row is assigned exactly once.

    Args:
        scores: ``(N, M + 1)``; column 0 is "new object", column j + 1 is slot j.

    Returns:
        For each detection a slot or ``NEW``; slots are distinct.
    """
    new, slots = scores[:, :1], scores[:, 1:]
    # one column "new object" per detection
    padded = torch.cat([slots, new.expand(-1, len(scores))], dim=1)
    _, columns = linear_sum_assignment(padded.numpy(), maximize=True)
    return [column if column < slots.shape[1] else NEW for column in columns.tolist()]


# Rules


def masktrack(detections: Detections, memory: Memory, settings: TrackingConfig) -> list[int]:
    """MaskTrack R-CNN's scores, assigned greedily: the paper's rule."""
    scores = association_scores(detections, memory, settings)
    return greedy(rule_out_jumps(scores, detections, memory, settings.max_jump))


def hungarian(detections: Detections, memory: Memory, settings: TrackingConfig) -> list[int]:
    """MaskTrack R-CNN's scores, assigned one to one."""
    scores = association_scores(detections, memory, settings)
    return one_to_one(rule_out_jumps(scores, detections, memory, settings.max_jump))


def bisoftmax(detections: Detections, memory: Memory, settings: TrackingConfig) -> list[int]:
    """QDTrack's bi-directional softmax, assigned one to one."""
    scores = bisoftmax_scores(detections, memory)
    return one_to_one(rule_out_jumps(scores, detections, memory, settings.max_jump))


def query(detections: Detections, memory: Memory, settings: TrackingConfig) -> list[int]:
    """Cosine similarity of detector queries, assigned one-to-one, as in MinVIS.

    MinVIS matches all queries of two frames; here only detections are matched, and those that are
    not similar to any track are new objects.
    """
    scores = F.pad(cosine_scores(detections, memory), (1, 0), value=settings.match_threshold)
    return one_to_one(rule_out_jumps(scores, detections, memory, settings.max_jump))
