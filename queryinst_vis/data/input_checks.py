"""Checks of the ``input`` section of a config."""

from __future__ import annotations

import math
from collections.abc import Sequence

from queryinst_vis.config import InputConfig
from queryinst_vis.data.v2_transforms import build_transforms
from queryinst_vis.errors import InputError


def check_input(config: InputConfig) -> None:
    """Raise an InputError for augmentation settings that cannot work."""
    for key in ("train_short", "train_long"):
        sides = getattr(config, key)
        if not sides or min(sides) < 1:
            raise InputError(f"input.{key} is {sides}: give at least one side of 1 pixel or more")
    for key in ("flip", "crop", "colour", "copy_paste"):
        if not 0 <= getattr(config, key) <= 1:
            raise InputError(f"input.{key} is {getattr(config, key)}: expected 0 to 1")
    _check_crop(config.crop_range, config.crop_short)
    _check_scale_jitter(config)
    for key in ("copy_paste_max", "min_visible"):
        if getattr(config, key) < 1:
            raise InputError(f"input.{key} is {getattr(config, key)}: expected 1 or more")
    build_transforms(config.transforms)
    if config.max_frame_gap is not None and config.max_frame_gap < 0:
        raise InputError(f"input.max_frame_gap is {config.max_frame_gap}: expected 0 or more")


def _check_crop(crop_range: Sequence[float], crop_short: Sequence[int]) -> None:
    if crop_short and min(crop_short) < 1:
        raise InputError(f"input.crop_short is {crop_short}: expected sides of 1 pixel or more")
    pair = len(crop_range) == 2
    if crop_short and not (pair and 1 <= crop_range[0] <= crop_range[1]):
        raise InputError(
            f"input.crop_range is {crop_range}: with input.crop_short it counts pixels, expected "
            "[low, high] from 1 on"
        )
    if not crop_short and not (pair and 0 < crop_range[0] <= crop_range[1] <= 1):
        raise InputError(f"input.crop_range is {crop_range}: expected [low, high] in 0 to 1")


def _check_scale_jitter(config: InputConfig) -> None:
    factors = config.scale_jitter
    if factors and not (len(factors) == 2 and 0 < factors[0] <= factors[1] < math.inf):
        raise InputError(f"input.scale_jitter is {factors}: expected [low, high] above 0, or []")
    for key in ("train_short", "train_long"):
        sides = getattr(config, key)
        if factors and len(sides) > 1:
            raise InputError(
                f"input.{key} is {sides}: with input.scale_jitter all samples share one canvas, "
                "give one side"
            )
