"""Mask features of detected instances before and after DynConv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Detections
from queryinst_vis.utils.images import read_image
from queryinst_vis.visualization.mask_features import draw_mask_features


def plot_mask_features(
    image: str | Path,
    out: str | Path,
    weights: str | Path = "people",
    *,
    max_instances: int = 6,
    score_threshold: float = 0.3,
    device: str = "auto",
) -> int:
    """Plot the mask features of detected instances before and after DynConv (paper Fig. 4).

    Args:
        image: the image file.
        out: the PNG to write.
        weights: name of weights, or a checkpoint file.
        max_instances: maximum number of instances, by score.
        score_threshold: minimum score, 0..1.
        device: ``"auto"``: a GPU if available.

    Returns:
        The number of instances plotted.

    Raises:
        InputError: invalid image or weights, mask heads without DynConv, no detections, or the
            plot cannot be written.
    """
    pixels = read_image(image)
    model, config = load_model(weights, device)
    if _last_mask_head(model).dynamic_conv is None:
        raise InputError(
            f"weights {weights}: the mask heads of this model have no DynConv; use weights of a "
            "model with model.mask.dynamic=true"
        )
    inference = replace(
        config.inference, score_threshold=score_threshold, max_per_image=max_instances
    )
    found, before, after = mask_features(model, replace(config, inference=inference), pixels)
    if len(found) == 0:
        raise InputError(
            f"image {image}: no instance has a score of {score_threshold} or more; lower the "
            f"threshold, or use other weights than {weights}"
        )
    draw_mask_features(pixels, found, before, after, config.model.classes, out)
    return len(found)


@torch.inference_mode()
def mask_features(
    model: QueryInst, config: Config, image: np.ndarray
) -> tuple[Detections, Tensor, Tensor]:
    """Detect instances and capture the input and output of the last mask head's DynConv.

    Args:
        model: in eval mode, with dynamic mask heads.
        config: the ``input``, ``inference`` and ``model.backbone`` keys are used, except that a
            query is always one instance (``inference.one_label_per_query``).
        image: ``(H, W, 3)`` uint8 RGB.

    Returns:
        N detections in pixels of the image, and their x_mask and x_mask*, each ``(N, C, s, s)``
        (paper eq. 3), all on the CPU.

    Raises:
        ValueError: the mask heads have no DynConv.
    """
    # a query with two labels would appear twice, with the same features
    inference = replace(config.inference, one_label_per_query=True)
    read: list[tuple[Tensor, Tensor]] = []

    def listen(_: nn.Module, queries_and_features: tuple[Tensor, Tensor]) -> None:
        read.append(queries_and_features)

    head = _last_mask_head(model)
    if head.dynamic_conv is None:
        raise ValueError("the mask heads of this model have no DynConv")
    # a hook sees the features of exactly the returned masks, in the same order
    hook = head.dynamic_conv.register_forward_pre_hook(listen)
    try:
        detector = Detector(model, replace(config, inference=inference))
        (found,) = detector.detect_frames([image], embedding=None)
    finally:
        hook.remove()
    ((queries, before),) = read
    return found, before.cpu(), head.enhance(before, queries).cpu()


def _last_mask_head(model: QueryInst) -> MaskHead:
    head = model.mask_heads[-1]
    if not isinstance(head, MaskHead):
        raise TypeError(f"expected a MaskHead, got {type(head).__name__}")
    return head
