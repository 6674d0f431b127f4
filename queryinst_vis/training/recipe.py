"""Checks of a training recipe, and the precision that it leaves to the machine."""

from __future__ import annotations

from dataclasses import replace

from queryinst_vis.config import Config, TrainConfig, check_numbers
from queryinst_vis.errors import InputError
from queryinst_vis.training.launch import AUTO, choose_precision


def check_recipe(recipe: TrainConfig) -> None:
    """Raise an InputError for settings that are out of range."""
    check_numbers(recipe, "train")
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
