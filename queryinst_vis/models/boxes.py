"""Box arithmetic of Sparse R-CNN: learned proposals and refinement by deltas."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import box_convert

DELTA_STDS = (0.5, 0.5, 1.0, 1.0)
PROPOSAL_LAYOUTS = ("image", "grid")
MAX_LOG_RATIO = abs(math.log(16 / 1000))


def draw_proposals(count: int, layout: str) -> Tensor:
    """Initial learned proposals, ``(N, 4)`` (cx, cy, w, h) as fractions of the image.

    Args:
        count: N.
        layout: ``"image"``: every box covers the whole image, as published. ``"grid"``: a grid of
            overlapping boxes, so that queries differ from the first step and short schedules
            converge faster.
    """
    if layout == "image":
        return torch.tensor([[0.5, 0.5, 1.0, 1.0]]).repeat(count, 1)
    rows = round(math.sqrt(count * 9 / 16))
    boxes = []
    for row, columns in enumerate(torch.arange(count).tensor_split(max(rows, 1))):
        width, height = 1 / len(columns), 1 / max(rows, 1)
        boxes += [
            ((column + 0.5) * width, (row + 0.5) * height, 1.5 * width, 1.5 * height)
            for column in range(len(columns))
        ]
    return torch.tensor(boxes)


def initial_boxes(proposals: Tensor, image_sizes: list[tuple[int, int]] | Tensor) -> Tensor:
    """Scale the learned proposals to each image.

    Args:
        proposals: ``(N, 4)`` (cx, cy, w, h) as fractions of the image.
        image_sizes: ``(height, width)`` of each image without padding; a ``(B, 2)`` tensor where
            the sizes are an input of a traced graph.

    Returns:
        ``(B, N, 4)`` xyxy in pixels, not clipped.
    """
    sizes = torch.as_tensor(image_sizes, dtype=proposals.dtype, device=proposals.device)
    scale = sizes.flip(1).repeat(1, 2)  # (w, h, w, h)
    return box_convert(proposals, "cxcywh", "xyxy")[None] * scale[:, None]


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Refine ``(..., 4)`` xyxy boxes by raw ``(dx, dy, dw, dh)`` predictions.

    Size changes are clamped to a factor of 1000/16; nothing is clipped to the image.
    """
    # unbound, since a tensor of DELTA_STDS would be copied to the device at every call
    dx, dy, dw, dh = (delta * std for delta, std in zip(deltas.unbind(-1), DELTA_STDS, strict=True))
    x0, y0, x1, y1 = boxes.unbind(-1)
    width, height = x1 - x0, y1 - y0
    cx = (x0 + x1) / 2 + dx * width
    cy = (y0 + y1) / 2 + dy * height
    half_width = width * dw.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() / 2
    half_height = height * dh.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() / 2
    return torch.stack(
        (cx - half_width, cy - half_height, cx + half_width, cy + half_height), dim=-1
    )
