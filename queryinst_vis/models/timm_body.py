"""Feature maps of timm models; imported only where a timm model is built."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import Format
from timm.models import FeatureInfo
from torch import nn

from queryinst_vis.errors import InputError, first_line
from queryinst_vis.models.installed_backbone import STRIDES
from queryinst_vis.utils.hub import asking_the_hub

# Swin and similar: any input size, with shifted windows at every level
ANY_SIZE = {"strict_img_size": False, "always_partition": True}


def create_body(name: str, drop_path: float, pretrained: bool) -> nn.Module:
    """A timm model that returns its feature maps at ``STRIDES``; arguments as for ``Backbone``.

    Raises:
        InputError: as for ``Backbone``.
    """
    options: dict[str, Any] = dict(ANY_SIZE) if name.startswith("swin") else {}
    if drop_path:
        options["drop_path_rate"] = drop_path
    options["out_indices"] = _level_indices(name, options)
    if not pretrained:
        return timm.create_model(name, features_only=True, **options)
    name = _weights_of_the_paper(name)
    if not timm.is_model_pretrained(name):
        raise InputError(f"model.backbone.name '{name}': timm has no pretrained weights for it")
    with asking_the_hub(f"pretrained weights of {name}"):
        return timm.create_model(name, features_only=True, pretrained=True, **options)


def feature_info(model: nn.Module) -> FeatureInfo:
    """timm's description of the feature maps of a model built with ``features_only``."""
    info = model.feature_info
    if not isinstance(info, FeatureInfo):
        raise TypeError(f"expected the FeatureInfo of timm, got {type(info).__name__}")
    return info


def is_channels_last(model: nn.Module) -> bool:
    """Whether a timm model returns ``(B, H, W, C)``, as Swin does."""
    return getattr(model, "output_fmt", Format.NCHW) == Format.NHWC


def _weights_of_the_paper(name: str) -> str:
    """A timm name with the tag of torchvision's weights, if available.

    timm's defaults for ResNets use longer training with a different recipe for each depth.
    """
    tagged = f"{name}.tv_in1k"
    return tagged if timm.is_model_pretrained(tagged) else name


def _level_indices(name: str, options: dict[str, Any]) -> list[int]:
    """Indices of the required strides among the feature maps of a timm model."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, features_only=True, **options)
    except (RuntimeError, AttributeError, ValueError, TypeError) as error:
        reason = first_line(error)
        raise InputError(
            f"model.backbone.name '{name}': timm cannot build it ({reason})"
        ) from error
    reductions = feature_info(model).reduction()
    missing = [stride for stride in STRIDES if stride not in reductions]
    if missing:
        raise InputError(
            f"model.backbone.name '{name}': has no feature maps at strides {missing}; "
            f"it offers {reductions}, {list(STRIDES)} are needed"
        )
    return [reductions.index(stride) for stride in STRIDES]
