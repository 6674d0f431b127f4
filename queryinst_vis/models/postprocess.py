"""From network output to Detections in pixels of the original frames."""

from __future__ import annotations

import torch
from torch import Tensor

from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Detections


@torch.no_grad()
def detect(
    model: QueryInst,
    images: Tensor,
    image_sizes: list[tuple[int, int]],
    original_sizes: list[tuple[int, int]],
    *,
    score_threshold: float = 0.05,
    max_per_image: int = 100,
    one_label_per_query: bool = False,
    mask_threshold: float = 0.5,
) -> list[Detections]:
    """Find and segment the instances of each image (paper 4.2, inference).

    No suppression of duplicates is needed: queries are matched one to one in training. Only
    the last stage's mask head runs, and only for the queries that are kept.

    Args:
        images: ``(B, 3, H, W)`` normalised and padded network input.
        image_sizes: ``(height, width)`` of each input without padding.
        original_sizes: ``(height, width)`` of the frames that the results refer to.
        score_threshold: weaker detections are dropped.
        max_per_image: the strongest that many are kept.
        one_label_per_query: every query names its best class only, so that an instance comes
            out once (video); otherwise query x class pairs compete (COCO).
        mask_threshold: probability from which on a pixel belongs to a mask.
    """
    output = model(images, image_sizes)
    last = output.stages[-1]
    picks = [
        _select(logits.float().sigmoid(), score_threshold, max_per_image, one_label_per_query)
        for logits in last.class_logits
    ]
    boxes = [last.boxes[image][query] for image, (query, _, _) in enumerate(picks)]
    q_star = [last.q_star[image][query] for image, (query, _, _) in enumerate(picks)]
    labels = torch.cat([label for _, label, _ in picks])
    counts = [len(b) for b in boxes]
    masks = _own_class_masks(model, output.features, boxes, q_star, labels).split(counts)
    embeddings = [None] * len(counts)
    if model.track_head is not None:
        embeddings = model.track_head(output.features, boxes).float().split(counts)
    return [
        Detections(
            boxes=_rescale(boxes[i].float(), image_sizes[i], original_sizes[i]),
            scores=picks[i][2],
            labels=picks[i][1],
            image_size=original_sizes[i],
            mask_logits=masks[i],
            embeddings=embeddings[i],
            mask_threshold=mask_threshold,
        )
        for i in range(len(counts))
    ]


def _select(
    scores: Tensor, threshold: float, limit: int, one_label_per_query: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Strongest ``(N, K)`` scores first: indices of queries, labels, and the scores."""
    num_classes = scores.shape[1]
    if one_label_per_query:
        best, label = scores.max(dim=1)
        top, query = best.topk(min(limit, len(best)))
        label = label[query]
    else:
        flat = scores.flatten()
        top, index = flat.topk(min(limit, len(flat)))
        query, label = index // num_classes, index % num_classes
    keep = top >= threshold
    return query[keep], label[keep], top[keep]


def _own_class_masks(
    model: QueryInst,
    features: list[Tensor],
    boxes: list[Tensor],
    q_star: list[Tensor],
    labels: Tensor,
) -> Tensor:
    """``(R, 28, 28)`` logits of each detection's own class."""
    logits = model.mask_logits(-1, features, boxes, q_star)
    return logits[torch.arange(len(labels), device=labels.device), labels].float()


def _rescale(boxes: Tensor, size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Boxes of the network input in pixels of the original frame."""
    (height, width), (original_height, original_width) = size, original_size
    x, y = original_width / width, original_height / height
    return boxes * boxes.new_tensor([x, y, x, y])
