"""Renaming the weights of OpenMMLab's QueryInst and MaskTrack R-CNN, in both directions.

Import supports QueryInst from the official repository and from mmdetection 2 and 3 with ResNet,
ResNeXt and Swin backbones, and the track heads of MaskTrack R-CNN's repository, mmtracking and
mmdetection 3. Export is for mmdetection 3. Values are not changed, but those of Swin's
downsampling layers are permuted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryinst_vis.checkpoints.openmmlab_keys import DETECTOR, convert_key, export_key
from queryinst_vis.checkpoints.weights import StateDict
from queryinst_vis.errors import InputError

# Swin's relative position index: not a weight, but derived from the window size
POSITION_INDEX = ".relative_position_index"
POSITION_TABLE = ".relative_position_bias_table"
MMDET_SWIN = "backbone.stages."
TRACK_HEAD = "track_head."


def convert_state_dict(state_dict: StateDict) -> StateDict:
    """Rename OpenMMLab's weights to the names of this package, without changing values.

    Raises:
        InputError: keys that have no counterpart in the model.
    """
    converted, unexpected_keys = translate(state_dict)
    if unexpected_keys:
        raise InputError(
            f"{len(unexpected_keys)} of {len(state_dict)} keys are not those of an mmdet "
            f"QueryInst: {', '.join(unexpected_keys[:5])}"
        )
    return converted


def translate(state_dict: StateDict) -> tuple[StateDict, list[str]]:
    """The weights with the names of this package, and the keys without a counterpart."""
    converted: StateDict = {}
    unexpected_keys: list[str] = []
    for key, value in state_dict.items():
        if key.endswith(POSITION_INDEX):
            continue
        name = convert_key(key)
        if name is None:
            unexpected_keys.append(key)
        elif _is_unfolded(key.removeprefix(DETECTOR)):
            converted[name] = _merged_order(value)
        else:
            converted[name] = value
    return converted, unexpected_keys


def export_state_dict(weights: StateDict, final_relu: bool = True) -> StateDict:
    """Rename weights of this package to mmdetection 3's names, without changing values.

    A model with a track head uses the names of mmdetection's ``MaskTrackRCNN``, i.e. with the
    detector's weights under ``detector.``.

    Args:
        weights: of a published QueryInst with a ResNet, ResNeXt or Swin backbone, of a track
            head, or of both.
        final_relu: ``model.track.final_relu``. Without it, the track head keeps the names of
            MaskTrack R-CNN's repository, since mmdetection's head applies a final ReLU.

    Raises:
        InputError: weights without a counterpart in mmdetection.
    """
    prefix = DETECTOR if any(name.startswith(TRACK_HEAD) for name in weights) else ""
    exported: StateDict = {}
    for name, value in weights.items():
        key = export_key(name)
        if key is None:
            raise InputError(
                f"{name}: has no counterpart in mmdetection's QueryInst; only published heads on a "
                "ResNet, ResNeXt or Swin can be exported"
            )
        if name.startswith(TRACK_HEAD):
            exported[key if final_relu else name] = value
            continue
        exported[prefix + key] = _unfolded_order(value) if _is_unfolded(key) else value
        if key.endswith(POSITION_TABLE):
            index = key.removesuffix(POSITION_TABLE) + POSITION_INDEX
            exported[prefix + index] = _relative_positions(value)
    return exported


def has_final_relu(state_dict: StateDict) -> bool:
    """Whether there is a track head of mmdetection, which has a final ReLU."""
    return any("embed_head.fcs." in key for key in state_dict)


def _is_unfolded(key: str) -> bool:
    """Whether this is a weight of a Swin downsampling layer, which mmdetection permutes.

    mmdetection orders 2x2 positions as (channel, row, column); the authors of Swin and timm
    as (column, row, channel).
    """
    return key.startswith(MMDET_SWIN) and ".downsample." in key


def _merged_order(value: Tensor) -> Tensor:
    """``(..., 4 C)`` from mmdetection's order to timm's."""
    return value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)


def _unfolded_order(value: Tensor) -> Tensor:
    """``(..., 4 C)`` from timm's order to mmdetection's."""
    return value.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)


def _relative_positions(table: Tensor) -> Tensor:
    """Swin's relative position index: the row of ``table`` for each pair of window positions.

    Args:
        table: ``((2 w - 1)^2, heads)`` for a window of w x w.

    Returns:
        ``(w^2, w^2)`` int64.
    """
    span = round(len(table) ** 0.5)
    window = (span + 1) // 2
    place = (torch.arange(window)[:, None] * span + torch.arange(window)).flatten()
    return place[:, None] - place + len(table) // 2
