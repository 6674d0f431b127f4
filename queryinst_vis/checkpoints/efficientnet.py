"""ImageNet weights of EfficientNet-PyTorch's Lite models with timm's key names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from queryinst_vis.errors import InputError

FIRST_KEY = "_conv_stem.weight"  # identifies the format of EfficientNet-PyTorch
TIMM_NAMES = [f"tf_efficientnet_lite{number}" for number in range(5)]


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Rename the weights of an EfficientNet-Lite to those of timm's ``tf_efficientnet_lite*``.

    Both are ports of the same TensorFlow models with their layers in the order of computation, so
    keys are paired by position; shapes and the last part of each key must agree.

    Returns:
        timm's name of the model, and the renamed weights.

    Raises:
        InputError: the weights are not those of an EfficientNet-Lite0 to Lite4.
    """
    import timm

    outline = _outline(state_dict)
    for name in TIMM_NAMES:
        with torch.device("meta"):
            expected = timm.create_model(name).state_dict()
        if _outline(expected) == outline:
            return name, dict(zip(expected, state_dict.values(), strict=True))
    raise InputError(
        f"{len(state_dict)} tensors whose shapes are those of no EfficientNet-Lite0 to Lite4: "
        "only these are supported"
    )


def _outline(state_dict: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    """The last part of every key, and the shape."""
    return [(name.rpartition(".")[2], value.shape) for name, value in state_dict.items()]
