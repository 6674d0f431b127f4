"""Conversion between mmdetection's data samples and ``structures``.

mmdetection is not imported: samples are accessed by their attributes, so that this can be tested
without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections, Target
from queryinst_vis.utils.images import Size


class Sample(Protocol):
    """The attributes of mmdetection's ``DetDataSample`` in use.

    Attributes:
        metainfo: ``img_shape`` and ``ori_shape``, (height, width) of the network input without
            padding and of the image file.
        gt_instances: for training: ``bboxes`` (M, 4) xyxy in input pixels, ``labels`` (M,),
            ``masks`` with ``to_tensor``, and for videos ``instances_ids`` (M,).
        ignored_instances: for training, optional: crowds, with ``masks`` as above.
    """

    metainfo: dict[str, Any]
    gt_instances: Any


def target_of(sample: Sample, device: torch.device, ignore: bool = False) -> Target:
    """The ground truth of a frame.

    Args:
        sample: sample of mmdetection.
        device: device of the target's tensors.
        ignore: set ``Target.ignore`` from ``ignored_instances``.

    Raises:
        InputError: the sample has no masks.
    """
    ground_truth = sample.gt_instances
    masks = getattr(ground_truth, "masks", None)
    if masks is None:
        raise InputError(
            "mmdetection's sample has no masks: load them with "
            "dict(type='LoadAnnotations', with_bbox=True, with_mask=True)"
        )
    numbers = torch.arange(len(ground_truth.labels))  # ids within a single image
    return Target(
        boxes=ground_truth.bboxes.to(device),
        labels=ground_truth.labels.to(device),
        masks=masks.to_tensor(torch.bool, device),
        instance_ids=getattr(ground_truth, "instances_ids", numbers).to(device),
        image_size=input_sizes([sample])[0],
        ignore=_ignored_region(sample, device) if ignore else None,
    )


def _ignored_region(sample: Sample, device: torch.device) -> Tensor | None:
    """``(H, W)`` bool, the union of all crowds; None without crowds."""
    masks = getattr(getattr(sample, "ignored_instances", None), "masks", None)
    regions = None if masks is None else masks.to_tensor(torch.bool, device)
    return None if regions is None or not len(regions) else regions.any(dim=0)


def input_sizes(samples: Sequence[Sample]) -> list[Size]:
    """(height, width) of each network input without padding."""
    return [_size(sample, "img_shape") for sample in samples]


def output_sizes(samples: Sequence[Sample], rescale: bool) -> list[Size]:
    """(height, width) of each image file if ``rescale``, otherwise of the network input."""
    return [_size(sample, "ori_shape" if rescale else "img_shape") for sample in samples]


def _size(sample: Sample, name: str) -> Size:
    height, width = sample.metainfo[name][:2]
    return int(height), int(width)


def instance_fields(detections: Detections) -> dict[str, Tensor]:
    """The fields of mmdetection's ``InstanceData`` for one frame.

    ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,), ``masks`` (N, H, W) bool, and for tracked
    detections ``instances_id`` (N,).
    """
    fields = {
        "bboxes": detections.boxes,
        "scores": detections.scores,
        "labels": detections.labels,
        "masks": detections.masks(),
    }
    if detections.track_ids is not None:
        fields["instances_id"] = detections.track_ids
    return fields


def loss_name(name: str) -> str:
    """The name of a loss for mmengine, which sums all values with ``loss`` in their names."""
    return name.replace(".", ".loss_") if "." in name else f"loss_{name}"
