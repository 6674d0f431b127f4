"""ImageNet weights of EfficientNet-PyTorch's Lite0 with timm's key names."""

from __future__ import annotations

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
    import timm

    with torch.device("meta"):
        expected = timm.create_model(TIMM_NAME).state_dict()
    if len(expected) != len(state_dict):
        raise InputError(
            f"has {len(state_dict)} tensors, EfficientNet-Lite0 has {len(expected)}: only Lite0 "
            "is supported"
        )
    renamed = {}
    for (name, like), (key, value) in zip(expected.items(), state_dict.items(), strict=True):
        if name.rpartition(".")[2] != key.rpartition(".")[2] or like.shape != value.shape:
            raise InputError(
                f"{key} of shape {tuple(value.shape)} instead of "
                f"{name} of shape {tuple(like.shape)}"
            )
        renamed[name] = value
    return renamed
