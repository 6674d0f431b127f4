"""ImageNet weights of EfficientNet-PyTorch's Lite0 with timm's key names."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from queryinst_vis.errors import InputError

FIRST_KEY = "_conv_stem.weight"  # identifies the format of EfficientNet-PyTorch
TIMM_NAME = "tf_efficientnet_lite0"


def convert_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of EfficientNet-Lite0 to those of timm's ``tf_efficientnet_lite0``.

    Both are ports of the same TensorFlow model with its layers in the order of computation, so
    keys are paired by position; shapes and the last part of each key are checked.

    Raises:
        InputError: the weights are not those of an EfficientNet-Lite0.
    """
    with torch.device("meta"):
        wanted = timm.create_model(TIMM_NAME).state_dict()
    if len(wanted) != len(state_dict):
        raise InputError(
            f"has {len(state_dict)} tensors, EfficientNet-Lite0 has {len(wanted)}: only Lite0 "
            "is converted"
        )
    renamed = {}
    for (ours, like), (theirs, value) in zip(wanted.items(), state_dict.items(), strict=True):
        if ours.rpartition(".")[2] != theirs.rpartition(".")[2] or like.shape != value.shape:
            raise InputError(
                f"{theirs} of shape {tuple(value.shape)} instead of "
                f"{ours} of shape {tuple(like.shape)}"
            )
        renamed[ours] = value
    return renamed
