"""Mask features before and after DynConv (paper Fig. 4)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import atomic_path

_TILE, _MIN_TILE = 1.7, 1.1  # inches: side of an image, and its minimum width (for its title)
_LEFT, _EDGE, _CAPTION_GAP, _LINE = 1.4, 0.12, 0.3, 0.15  # inches; _LINE is the height of a line
_FADED = 0.2  # opacity of the image outside the mask
_ROWS = (
    "image",
    "$x^{mask}$\nfrom the FPN",
    "$x^{mask*}$\nafter DynConv",
    "predicted\nmask",
)
_CAPTION = (
    "Features of a RoI are shown as their first principal component over positions, from minimum "
    "(dark) to maximum, signed so that the mask is bright. Below: the fraction of explained "
    "variance."
)


def draw_mask_features(
    image: np.ndarray,
    detections: Detections,
    before: Tensor,
    after: Tensor,
    class_names: Sequence[str],
    path: str | Path,
) -> None:
    """Draw the mask features of instances before and after DynConv as a PNG (Fig. 4).

    One column per instance; from top to bottom: its box in the image, x_mask as pooled from the
    FPN, x_mask* after DynConv(mask), and its predicted mask. Features are reduced by
    ``principal_component``.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        detections: N >= 1 instances of the image, with masks.
        before, after: ``(N, C, s, s)`` x_mask and x_mask* of these instances.
        class_names: names of the labels.
        path: the PNG to write.

    Raises:
        InputError: the file cannot be written.
    """
    if detections.mask_logits is None:
        raise ValueError("these Detections have only boxes: there are no masks to draw")
    titles = [
        textwrap.fill(f"{class_names[label]} {score:.2f}", 15)
        for label, score in zip(detections.labels, detections.scores.tolist(), strict=True)
    ]
    figure, tiles = _grid(detections.boxes, max(title.count("\n") + 1 for title in titles))
    for number, (column, box) in enumerate(zip(tiles.T, detections.boxes.tolist(), strict=True)):
        instance = detections[number : number + 1]
        features = before[number], after[number]
        mask = detections.mask_logits[number].float().sigmoid()
        _draw_features(column[1:3], features, mask, box)
        _draw_pixels(column[0], image, box)
        _draw_pixels(column[3], _fade_outside(image, instance.masks()[0].cpu().numpy()), box)
        column[0].set_title(titles[number], fontsize=9, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def principal_component(features: Tensor, mask: Tensor) -> tuple[np.ndarray, float]:
    """The features of one RoI as an image: their first principal component.

    DynConv ends with a LayerNorm at each position, which makes the mean channel magnitude
    nearly constant. Positions differ in the direction of their features, and the first principal
    component is the direction with the largest variance.

    Args:
        features: ``(C, s, s)``.
        mask: ``(h, w)`` mask probabilities, 0..1. The sign of the component is chosen to
            correlate with the mask.

    Returns:
        ``(s, s)`` image with zero mean, and the explained variance, 0..1
        (0 if the features are constant).
    """
    side = features.shape[-1]
    positions = features.detach().float().cpu().flatten(1).T
    centred = positions - positions.mean(dim=0)
    u, scale, _ = torch.linalg.svd(centred, full_matrices=False)
    component = u[:, 0] * scale[0]
    inside = adaptive_avg_pool2d(mask.detach().float().cpu()[None], side).flatten()
    if component @ inside < 0:  # the mean is zero, so this is the sign of the correlation
        component = -component
    variance = scale.square()
    explained = variance[0] / variance.sum().clamp(min=torch.finfo(variance.dtype).tiny)
    return component.reshape(side, side).numpy(), float(explained)


def _grid(boxes: Tensor, title_lines: int) -> tuple[Figure, np.ndarray]:
    """A figure with ``(rows, N)`` tiles for ``(N, 4)`` boxes, row names and a caption."""
    sides = boxes[:, 2:] - boxes[:, :2]
    widest = float((sides[:, 0] / sides[:, 1]).max())  # tall boxes need no square tiles
    columns = len(boxes) * min(max(_TILE * widest, _MIN_TILE), _TILE)
    width = _LEFT + max(columns, 4.0) + _EDGE  # the caption needs room as well
    caption = textwrap.fill(_CAPTION, int(width * 16))
    top = _EDGE + _LINE * (title_lines + 1)
    bottom = _EDGE + _LINE * (caption.count("\n") + 1) + _CAPTION_GAP
    height = top + _TILE * len(_ROWS) + bottom
    figure = Figure(figsize=(width, height))
    tiles = figure.subplots(
        len(_ROWS),
        len(boxes),
        squeeze=False,
        gridspec_kw={
            "left": _LEFT / width,
            "right": (_LEFT + columns) / width,
            "top": 1 - top / height,
            "bottom": bottom / height,
            "wspace": 0.08,
            "hspace": 0.16,
        },
    )
    for row, name in zip(tiles, _ROWS, strict=True):
        middle = row[0].get_position().y0 + row[0].get_position().height / 2
        figure.text(_LEFT / 2 / width, middle, name, fontsize=10, ha="center", va="center")
    figure.text(_EDGE / width, _EDGE / height, caption, fontsize=8, va="bottom", color="0.3")
    return figure, tiles


def _draw_features(
    tiles: Sequence[Axes], features: Sequence[Tensor], mask: Tensor, box: Sequence[float]
) -> None:
    """Show the features of one box, each ``(C, s, s)``, with the explained variance."""
    x0, y0, x1, y1 = box
    for tile, values in zip(tiles, features, strict=True):
        component, explained = principal_component(values, mask)
        tile.imshow(component, cmap="viridis", extent=(x0, x1, y1, y0))
        tile.set_xlabel(f"{explained:.0%}", fontsize=8, labelpad=2)
        _show_box(tile, box)


def _draw_pixels(tile: Axes, image: np.ndarray, box: Sequence[float]) -> None:
    """Show the pixels of the image that intersect a box, at least one."""
    (left, right), (top, bottom) = (
        _span(box[axis], box[axis + 2], image.shape[1 - axis]) for axis in (0, 1)
    )
    tile.imshow(image[top:bottom, left:right], extent=(left, right, bottom, top))
    _show_box(tile, box)


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    """First and last (exclusive) of the ``limit`` pixels that intersect a side of a box."""
    first = min(max(math.floor(low), 0), limit - 1)
    return first, max(min(math.ceil(high), limit), first + 1)


def _show_box(tile: Axes, box: Sequence[float]) -> None:
    """Zoom to the box, which may extend beyond the image, with its aspect ratio."""
    x0, y0, x1, y1 = box
    tile.set(xlim=(x0, x1), ylim=(y1, y0), xticks=[], yticks=[], facecolor="0.9")


def _fade_outside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The ``(H, W, 3)`` uint8 image, almost white outside the ``(H, W)`` bool mask."""
    faded = cv2.addWeighted(image, _FADED, np.full_like(image, 255), 1 - _FADED, 0)
    return np.where(mask[..., None], image, faded)
