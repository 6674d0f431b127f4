"""Queries in ignore regions, such as crowds, which are not negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from queryinst_vis.losses.matcher import Match
from queryinst_vis.structures import StageOutput, Target


def ignored_queries(
    stages: list[StageOutput], matches: list[list[Match]], targets: list[Target], overlap: float
) -> list[Tensor] | None:
    """Unmatched queries whose box in a stage overlaps ignore regions.

    Args:
        stages: outputs of the S stages for B images and N queries.
        matches: ``[stage][image]``; a matched query is never ignored.
        targets: B targets (ground truth).
        overlap: minimum covered fraction of the box, clipped to the image.

    Returns:
        S bool tensors ``(B, N)``, or None if no image has an ignore region.
    """
    if all(target.ignore is None for target in targets):
        return None
    boxes = torch.stack([stage.boxes.detach() for stage in stages])
    ignored = torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for image, target in enumerate(targets):
        if target.ignore is not None:
            height, width = target.image_size
            share = covered_share(target.ignore[:height, :width], boxes[:, image])
            ignored[:, image] = share >= overlap - 1e-6  # tolerance for an overlap of 1
    for stage, stage_matches in zip(ignored, matches, strict=True):
        for image, match in zip(stage, stage_matches, strict=True):
            image[match.queries] = False
    return list(ignored)


def covered_share(region: Tensor, boxes: Tensor) -> Tensor:
    """Fraction of each box, clipped to the image, that is covered by a region.

    Uses a summed-area table, which is bilinear between pixels, so that interpolation is exact for
    fractional coordinates. It needs float64, and is computed on the CPU for Apple's GPUs, which
    lack it.

    Args:
        region: ``(H, W)`` bool.
        boxes: ``(..., 4)`` xyxy in pixels of the region; may extend beyond it.

    Returns:
        ``(...)`` float64 in 0..1 (float32 on Apple's GPUs); 0 for boxes with no area inside the
        image.
    """
    device = boxes.device
    if device.type == "mps":
        region, boxes = region.cpu(), boxes.cpu()
    height, width = region.shape
    table = torch.zeros((height + 1, width + 1), dtype=torch.float64, device=region.device)
    table[1:, 1:] = region.double().cumsum(0).cumsum(1)
    # NaN: the training loop reports a diverged model
    x0, y0, x1, y1 = torch.nan_to_num(boxes.double()).unbind(-1)
    x0, x1 = (x.clamp(0, width) for x in (x0, x1))
    y0, y1 = (y.clamp(0, height) for y in (y0, y1))
    covered = (
        _read(table, y1, x1) - _read(table, y0, x1) - _read(table, y1, x0) + _read(table, y0, x0)
    )
    area = (x1 - x0).clamp(min=0) * (y1 - y0).clamp(min=0)
    share = torch.where(area > 0, covered / area, 0.0)
    return share.float().to(device) if device.type == "mps" else share


def _read(table: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear interpolation of the table at fractional coordinates."""
    rows, columns = table.shape
    top, left = y.long().clamp(max=rows - 2), x.long().clamp(max=columns - 2)
    down, right = y - top, x - left
    upper = torch.lerp(table[top, left], table[top, left + 1], right)
    lower = torch.lerp(table[top + 1, left], table[top + 1, left + 1], right)
    return torch.lerp(upper, lower, down)
