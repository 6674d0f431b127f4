"""Backbones of other packages: entry points in the group ``queryinst_vis.backbones``."""

from __future__ import annotations

import torch
from torch import nn

from queryinst_vis.errors import InputError
from queryinst_vis.utils.plugins import BACKBONES, find_entry

STRIDES = (4, 8, 16, 32)
_SIDE = 64  # side of the image used to check a backbone, in pixels


def create_installed(
    name: str, frozen_stages: int, pretrained: bool, drop_path: float
) -> tuple[nn.Module, list[int]]:
    """Create a backbone of an installed package, and check its feature maps on a small image.

    The entry point is called without arguments and returns a module that maps ``(B, 3, H, W)``
    images to four maps ``(B, C, H / s, W / s)`` with s = 4, 8, 16, 32. Its attribute ``channels``
    lists the four C. An optional method ``freeze(stages)`` freezes the stem and this many stages.

    Args:
        name: name of the entry point.
        frozen_stages, pretrained, drop_path: as for ``Backbone``.

    Returns:
        The module and its channels.

    Raises:
        InputError: the name is unknown to timm and installed packages, the module does not follow
            this interface, or a setting is not supported.
    """
    import timm

    where = f"model.backbone.name '{name}'"
    unknown = "model.backbone.name: neither timm nor an installed package has"
    make = find_entry(name, BACKBONES, unknown, {}, known=timm.list_models())
    if pretrained:
        raise InputError(f"{where}: only timm's weights are fetched; use model.backbone.weights")
    if drop_path:
        raise InputError(f"{where}: only timm's models take model.backbone.drop_path; set it to 0")
    body = make()
    if not isinstance(body, nn.Module):
        raise InputError(f"{where}: its package returns {type(body).__name__}, not an nn.Module")
    channels = _check_maps(body, where)
    if frozen_stages:
        freeze = getattr(body, "freeze", None)
        if not callable(freeze):
            raise InputError(
                f"{where}: has no method freeze(stages); set model.backbone.frozen_stages=0"
            )
        freeze(frozen_stages)
    return body, channels


@torch.no_grad()
def _check_maps(body: nn.Module, where: str) -> list[int]:
    """Check the feature maps on a small image; returns their channels."""
    was_training = body.training
    shapes = [tuple(map_.shape) for map_ in body.eval()(torch.zeros(1, 3, _SIDE, _SIDE))]
    body.train(was_training)
    channels = list(getattr(body, "channels", []))
    sides = [_SIDE // stride for stride in STRIDES]
    if len(channels) != len(STRIDES):
        raise InputError(f"{where}: its 'channels' must list four numbers, got {channels}")
    expected = [(1, width, side, side) for width, side in zip(channels, sides, strict=True)]
    if shapes != expected:
        raise InputError(
            f"{where}: its maps of a {_SIDE}x{_SIDE} image must be {expected}, got {shapes}"
        )
    return channels
