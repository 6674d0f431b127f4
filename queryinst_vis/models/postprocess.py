"""Postprocessing: from network output to detections in pixels of the original frames."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from queryinst_vis.models.queryinst import QueryInstOutput, gather_rows
from queryinst_vis.models.suppression import Suppression
from queryinst_vis.structures import Detections, Embedding


class SetPredictor(Protocol):
    """The interface that ``detect`` needs: a ``QueryInst`` or an exported model."""

    @property
    def device(self) -> torch.device:
        """The device of the network input."""

    @property
    def has_track_head(self) -> bool:
        """Whether ``track_embeddings`` returns embeddings."""

    def __call__(self, images: Tensor, image_sizes: list[tuple[int, int]]) -> QueryInstOutput:
        """As ``QueryInst.forward``."""

    def mask_logits(
        self,
        stage: int,
        output: QueryInstOutput,
        picks: list[Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        """As ``QueryInst.mask_logits``, for the last stage."""

    def track_embeddings(self, output: QueryInstOutput, picks: list[Tensor]) -> Tensor | None:
        """As ``QueryInst.track_embeddings``."""


@torch.no_grad()
def detect(
    model: SetPredictor,
    images: Tensor,
    image_sizes: list[tuple[int, int]],
    original_sizes: list[tuple[int, int]],
    *,
    score_threshold: float = 0.05,
    max_per_image: int = 100,
    one_label_per_query: bool = False,
    mask_threshold: float = 0.5,
    nms_threshold: float | None = None,
    nms_overlap: str = "boxes",
    embedding: Embedding | None = "track_head",
) -> list[Detections]:
    """Detect and segment the instances of each image (paper 4.2, inference).

    Queries are matched one-to-one in training, so the published model does not use NMS. Only the
    mask head of the last stage runs, and only for the queries that are kept.

    Args:
        images: ``(B, 3, H, W)`` normalised and padded network input.
        image_sizes: ``(height, width)`` of each input without padding.
        original_sizes: ``(height, width)`` of the frames that the results refer to.
        score_threshold: minimum score of detections.
        max_per_image: maximum number of detections, by score.
        one_label_per_query: use only the best class of every query, so that an instance is
            detected once (video); otherwise query x class pairs compete (COCO).
        mask_threshold: minimum probability of mask pixels.
        nms_threshold: IoU threshold for NMS; None: no NMS.
        nms_overlap: IoU of ``"boxes"`` of the same class, or of ``"masks"`` of the same class (with
            ``one_label_per_query``, of any class).
        embedding: kind of association embedding; None: none, as for ``"track_head"`` with a model
            that has no track head.
    """
    suppression = Suppression(nms_threshold, nms_overlap, class_agnostic=one_label_per_query)
    output = model(images, image_sizes)
    last = output.stages[-1]
    picks = []
    for logits, candidates in zip(last.class_logits, last.boxes, strict=True):
        query, label, score = select_queries(
            logits.float().sigmoid(), score_threshold, max_per_image, one_label_per_query
        )
        kept = suppression.of_boxes(candidates[query], score, label)
        picks.append((query[kept], label[kept], score[kept]))
    queries = [query for query, _, _ in picks]
    boxes = gather_rows(last.boxes, queries)
    labels = [label for _, label, _ in picks]
    masks = _mask_logits(model, output, queries, labels, one_label_per_query)
    embeddings = _embed(model, output, queries, embedding)
    detections = [
        Detections(
            boxes=rescale_boxes(boxes[i].float(), image_sizes[i], original_sizes[i]),
            scores=picks[i][2],
            labels=labels[i],
            image_size=original_sizes[i],
            mask_logits=masks[i],
            embeddings=embeddings[i],
            mask_threshold=mask_threshold,
        )
        for i in range(len(picks))
    ]
    return [suppression.of_masks(each) for each in detections]


def select_queries(
    scores: Tensor, threshold: float, limit: int, one_label_per_query: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """``rank_queries`` for the ``(N, K)`` scores of one image, above a score threshold."""
    query, label, top = rank_queries(scores, limit, one_label_per_query)
    keep = top >= threshold
    return query[keep], label[keep], top[keep]


def rank_queries(
    scores: Tensor, limit: int, one_label_per_query: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The top ``(query, class)`` pairs by score, in descending order.

    Args:
        scores: ``(..., N, K)`` of N queries for K classes, 0..1.
        limit: maximum number of pairs, L.
        one_label_per_query: only the best class of each query is a candidate.

    Returns:
        ``(..., L)`` query indices, labels and scores.
    """
    num_classes = scores.shape[-1]
    if one_label_per_query:
        best, label = scores.max(dim=-1)
        top, query = best.topk(min(limit, best.shape[-1]))
        return query, label.gather(-1, query), top
    flat = scores.flatten(-2)
    top, index = flat.topk(min(limit, flat.shape[-1]))
    return index // num_classes, index % num_classes, top


def _mask_logits(
    model: SetPredictor,
    output: QueryInstOutput,
    queries: list[Tensor],
    labels: list[Tensor],
    one_label_per_query: bool,
) -> list[Tensor]:
    """``(K, 28, 28)`` masks of the K selected queries of each image, for their labels."""
    if one_label_per_query:
        masks = model.mask_logits(-1, output, queries, torch.cat(labels))
        return list(masks.float().split([len(chosen) for chosen in queries]))
    # a query with several labels has one RoI, whose features are computed once
    uniques = [chosen.unique(return_inverse=True) for chosen in queries]
    masks = model.mask_logits(-1, output, [unique for unique, _ in uniques]).float()
    masks = masks.split([len(unique) for unique, _ in uniques])
    return [
        image_masks[rows, label]
        for image_masks, (_, rows), label in zip(masks, uniques, labels, strict=True)
    ]


def _embed(
    model: SetPredictor, output: QueryInstOutput, picks: list[Tensor], embedding: Embedding | None
) -> list[Tensor] | list[None]:
    """``(K, D)`` embeddings of the K selected queries of each image, or None for each image."""
    last = output.stages[-1]
    if embedding == "query":
        return [queries.float() for queries in gather_rows(last.queries, picks)]
    embeddings = None if embedding is None else model.track_embeddings(output, picks)
    if embeddings is None:
        return [None] * len(picks)
    return list(embeddings.float().split([len(pick) for pick in picks]))


def rescale_boxes(boxes: Tensor, size: tuple[int, int], original_size: tuple[int, int]) -> Tensor:
    """Scale boxes from the network input to the original frame; sizes are (height, width)."""
    (height, width), (original_height, original_width) = size, original_size
    x, y = original_width / width, original_height / height
    return boxes * boxes.new_tensor([x, y, x, y])
