"""Checks of the ``input`` section of a config."""

from __future__ import annotations

from collections.abc import Sequence

from queryinst_vis.config import InputConfig, check_numbers
from queryinst_vis.data.v2_transforms import build_transforms
from queryinst_vis.errors import InputError


def check_input(config: InputConfig) -> None:
    """Raise an InputError for invalid augmentation settings."""
    check_numbers(config, "input")
    for key in ("train_short", "train_long"):
        if not getattr(config, key):
            raise InputError(f"input.{key} is empty: give at least one side in pixels")
    _check_crop(config.crop_range, config.crop_short)
    _check_scale_jitter(config)
    build_transforms(config.transforms)


def _check_crop(crop_range: Sequence[float], crop_short: Sequence[int]) -> None:
    pair = len(crop_range) == 2
    if crop_short and not (pair and 1 <= crop_range[0] <= crop_range[1]):
        raise InputError(
            f"input.crop_range is {crop_range}: with input.crop_short it is in pixels; expected "
            "[low, high] of at least 1"
        )
    if not crop_short and not (pair and crop_range[0] <= crop_range[1] <= 1):
        raise InputError(f"input.crop_range is {crop_range}: expected [low, high] in 0 to 1")


def _check_scale_jitter(config: InputConfig) -> None:
    factors = config.scale_jitter
    if factors and not (len(factors) == 2 and factors[0] <= factors[1]):
        raise InputError(f"input.scale_jitter is {factors}: expected [low, high] above 0, or []")
    for key in ("train_short", "train_long"):
        sides = getattr(config, key)
        if factors and len(sides) > 1:
            raise InputError(
                f"input.{key} is {sides}: with input.scale_jitter all samples share one canvas; "
                "give one side"
            )
