"""Checks of a training recipe, and the precision that it leaves to the machine."""

from __future__ import annotations

from dataclasses import replace

from queryinst_vis.config import Config, TrainConfig
from queryinst_vis.errors import InputError
from queryinst_vis.training.launch import AUTO, choose_precision

AT_LEAST_ONE = ("max_steps", "batch_size", "accumulate", "log_every", "checkpoint_every")
ABOVE_ZERO = ("lr", "clip_norm")
NOT_NEGATIVE = (
    "backbone_lr_multiplier",
    "weight_decay",
    "warmup_steps",
    "warmup_factor",
    "lr_gamma",
    "eval_every",
)


def check_recipe(recipe: TrainConfig) -> None:
    """Raise an InputError for settings that are out of range."""
    for names, fits, expected in (
        (AT_LEAST_ONE, lambda value: value >= 1, "at least 1"),
        (ABOVE_ZERO, lambda value: value > 0, "above 0"),
        (NOT_NEGATIVE, lambda value: value >= 0, "0 or more"),
    ):
        for name in names:
            if not fits(getattr(recipe, name)):
                raise InputError(f"train.{name}: must be {expected}, is {getattr(recipe, name)}")
    if not 0 <= recipe.average_decay < 1:
        raise InputError(f"train.average_decay: must be in [0, 1), is {recipe.average_decay}")
    if recipe.init_new_classes_from is not None and recipe.init_weights is None:
        raise InputError(
            f"train.init_new_classes_from={recipe.init_new_classes_from}: names a class of "
            "train.init_weights, which is not set"
        )


def settle_precision(config: Config, saved: Config | None) -> Config:
    """The config with ``train.precision=auto`` replaced by a precision.

    Args:
        config: of the run.
        saved: the config of the run that is resumed, which keeps its precision on any machine;
            None for a new run.
    """
    precision = config.train.precision
    if precision == AUTO and saved is not None:
        precision = saved.train.precision
    return replace(config, train=replace(config.train, precision=choose_precision(precision)))
