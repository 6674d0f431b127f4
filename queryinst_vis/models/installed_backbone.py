"""Backbones of other packages, by their entry points in ``queryinst_vis.backbones``."""

from __future__ import annotations

import timm
import torch
from torch import nn

from queryinst_vis.errors import InputError
from queryinst_vis.utils.plugins import BACKBONES, find_entry

STRIDES = (4, 8, 16, 32)
_SIDE = 64  # pixels of the image used to test a backbone


def create_installed(
    name: str, frozen_stages: int, pretrained: bool, drop_path: float
) -> tuple[nn.Module, list[int]]:
    """A backbone of an installed package, and its channels. Its feature maps are checked once.

    The entry point is called without arguments. The module that it returns maps ``(B, 3, H, W)``
    images to four maps ``(B, C, H / s, W / s)`` with s = 4, 8, 16, 32, has the four C in
    ``channels``, and may have a method ``freeze(stages)`` that freezes its stem
    and this many stages.

    Args:
        name: of the entry point.
        frozen_stages, pretrained, drop_path: as for ``Backbone``.

    Raises:
        InputError: unknown to timm and installed packages, not such a module, or a setting is not
            supported.
    """
    where = f"model.backbone.name '{name}'"
    unknown = "model.backbone.name: neither timm nor an installed package has"
    make = find_entry(name, BACKBONES, unknown, {}, known=timm.list_models())
    if pretrained:
        raise InputError(f"{where}: only timm's weights are fetched; use model.backbone.weights")
    if drop_path:
        raise InputError(f"{where}: only timm's models take model.backbone.drop_path; set it to 0")
    body = make()
    if not isinstance(body, nn.Module):
        raise InputError(f"{where}: its package gives {type(body).__name__}, not an nn.Module")
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
        raise InputError(f"{where}: its 'channels' must list four numbers, lists {channels}")
    expected = [(1, width, side, side) for width, side in zip(channels, sides, strict=True)]
    if shapes != expected:
        raise InputError(
            f"{where}: its maps of a {_SIDE}x{_SIDE} image must be {expected}, are {shapes}"
        )
    return channels
