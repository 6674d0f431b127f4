"""Validation of a training recipe, and settings derived from the machine and the data size."""

from __future__ import annotations

import math
from dataclasses import replace

from queryinst_vis.config import Config, TrainConfig, check_numbers
from queryinst_vis.errors import InputError
from queryinst_vis.training.launch import AUTO, choose_precision
from queryinst_vis.training.log import LOGGERS, require_wandb


def check_recipe(recipe: TrainConfig) -> None:
    """Raise an InputError for settings that are out of range."""
    check_numbers(recipe, "train")
    for name in recipe.loggers:
        if name not in LOGGERS:
            raise InputError(f"train.loggers: unknown '{name}'; choose from {', '.join(LOGGERS)}")
        if name == "wandb":
            require_wandb()
    if recipe.init_new_classes_from is not None and recipe.init_weights is None:
        raise InputError(
            f"train.init_new_classes_from={recipe.init_new_classes_from}: names a class of "
            "train.init_weights, which is not set"
        )


def resolve_precision(config: Config, saved: Config | None) -> Config:
    """Replace ``train.precision=auto`` by a specific precision.

    Args:
        config: config of the run.
        saved: saved config of a resumed run, whose precision is kept on any machine; None for a
            new run.
    """
    precision = config.train.precision
    if precision == AUTO and saved is not None:
        precision = saved.train.precision
    return replace(config, train=replace(config.train, precision=choose_precision(precision)))


def plan_schedule(recipe: TrainConfig, epoch: int, processes: int) -> TrainConfig:
    """Convert epochs to steps, and scale the learning rate to the batch size.

    Args:
        recipe: may use ``epochs`` and ``scale_lr``.
        epoch: samples per epoch.
        processes: number of processes.
    """
    batch = processes * recipe.batch_size * recipe.accumulate
    if recipe.epochs is not None:
        steps = max(math.ceil(recipe.epochs * epoch / batch), 1)
        recipe = recipe.of_length(steps)
    if recipe.scale_lr:
        recipe = replace(recipe, lr=recipe.lr * batch / recipe.reference_batch)
    return recipe


def describe_schedule(recipe: TrainConfig, epoch: int, processes: int) -> str:
    """One-line description of a planned recipe; the arguments are those of ``plan_schedule``."""
    parts = {"processes": processes, "batch": recipe.batch_size, "accumulate": recipe.accumulate}
    batch = math.prod(parts.values())
    product = " x ".join(f"{value} {name}" for name, value in parts.items())
    epochs = recipe.max_steps * batch / epoch
    line = (
        f"{recipe.max_steps} steps of {batch} ({product}): {epochs:.3g} epochs of {epoch} samples"
    )
    if recipe.scale_lr:
        line += f"; lr {recipe.lr:.3g}, scaled by {batch} / {recipe.reference_batch}"
    return line
