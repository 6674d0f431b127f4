"""Weights of OpenMMLab's QueryInst and MaskTrack R-CNN under our names, and back.

Understood are the QueryInst of the official repository and of mmdetection 2 and 3 with ResNet,
ResNeXt and Swin backbones, and the track heads of MaskTrack R-CNN's repository, mmtracking and
mmdetection 3. Written is what mmdetection 3 reads. Values are never changed; those of Swin's
downsamplings change their order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from queryinst_vis.checkpoints.openmmlab_keys import DETECTOR, convert_key, export_key
from queryinst_vis.errors import InputError

StateDict = dict[str, Tensor]

# Swin's table of relative positions: no weight, it follows from the size of the window
POSITION_INDEX = ".relative_position_index"
POSITION_TABLE = ".relative_position_bias_table"
MMDET_SWIN = "backbone.stages."
TRACK_HEAD = "track_head."


def convert_state_dict(state_dict: StateDict) -> StateDict:
    """Their weights under our names, bit for bit.

    Raises:
        InputError: keys that have no counterpart in our model.
    """
    converted, unexpected_keys = translate(state_dict)
    if unexpected_keys:
        raise InputError(
            f"{len(unexpected_keys)} of {len(state_dict)} keys are not those of an mmdet "
            f"QueryInst: {', '.join(unexpected_keys[:5])}"
        )
    return converted


def translate(state_dict: StateDict) -> tuple[StateDict, list[str]]:
    """Their weights under our names, and the keys that have no counterpart in our model."""
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
    """Our weights under mmdetection 3's names, bit for bit.

    A model with a track head is named as mmdetection names a ``MaskTrackRCNN``, i.e. with the
    detector's weights under ``detector.``.

    Args:
        weights: of a published QueryInst with a ResNet, ResNeXt or Swin backbone, of a track
            head, or of both.
        final_relu: ``model.track.final_relu``. Without it the track head keeps the names of
            MaskTrack R-CNN's repository, since mmdetection's head would rectify its embeddings.

    Raises:
        InputError: weights that mmdetection has no place for.
    """
    prefix = DETECTOR if any(name.startswith(TRACK_HEAD) for name in weights) else ""
    exported: StateDict = {}
    for name, value in weights.items():
        key = export_key(name)
        if key is None:
            raise InputError(
                f"{name}: has no place in mmdetection's QueryInst; only published heads on a "
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
    """Whether their track head, if any, is mmdetection's, which rectifies its embeddings."""
    return any("embed_head.fcs." in key for key in state_dict)


def _is_unfolded(key: str) -> bool:
    """Whether one of mmdetection's downsamplings of Swin reads this weight.

    It gathers 2x2 positions as (channel, row, column); the authors of Swin, and timm with them,
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
    """Which row of ``table`` belongs to each pair of positions in a window, as Swin stores it.

    Args:
        table: ``((2 w - 1)^2, heads)`` for a window of w x w.

    Returns:
        ``(w^2, w^2)`` int64.
    """
    span = round(len(table) ** 0.5)
    window = (span + 1) // 2
    place = (torch.arange(window)[:, None] * span + torch.arange(window)).flatten()
    return place[:, None] - place + len(table) // 2
