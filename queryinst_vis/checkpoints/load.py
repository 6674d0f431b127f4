"""Load a model for inference from a name or a weights file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import build_for_inference, load_weights
from queryinst_vis.config import Config, apply_overrides, differences
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.device import choose_device

TRAINING_ONLY = (
    "backbone.weights",
    "backbone.frozen_stages",
    "backbone.norm_eval",
    "backbone.drop_path",
)


@torch.inference_mode(False)  # overrides the caller's mode, whose tensors could not be trained
def load_model(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[QueryInst, Config]:
    """Load a model for inference (eval mode, float32) together with its config.

    Args:
        name_or_path: a name or a file, as for ``find_weights``.
        device: ``"auto"`` prefers a GPU over the CPU.
        overrides: dotlist overrides of the inference, tracking and input keys; the model itself
            is fixed by the weights.

    Raises:
        InputError: unknown name, unreadable file, weights that do not fit their config, an
            override of the model, or an unavailable device.

    Example::

        model, config = queryinst_vis.load_model("people", "cpu", ["inference.score_threshold=0.5"])
        print(config.model.classes, model.track_head is not None)
    """
    path = find_weights(name_or_path)
    config, weights = load_weights(path)
    changed = apply_overrides(config, overrides or [])
    for key in differences(config.model, changed.model):
        raise InputError(f"override of model.{key}: the model is fixed by its weights, {path}")
    model = build_for_inference(config, weights, f"weights {path}")
    return model.to(choose_device(device)), changed


def load_for_config(config: Config, name_or_path: str | Path) -> tuple[QueryInst, Config]:
    """Load a model like ``load_model``, on the CPU, for use with another config.

    Args:
        config: must describe the same model, as for ``check_same_model``.
        name_or_path: a name or a file, as for ``find_weights``.

    Returns:
        The model, and ``config`` with the checkpoint's model section.

    Raises:
        InputError: as ``load_model``, or the config describes another model.
    """
    path = find_weights(name_or_path)
    saved, weights = load_weights(path)
    check_same_model(config, saved, f"weights {path}")
    model = build_for_inference(saved, weights, f"weights {path}")
    return model, replace(config, model=saved.model)


def check_same_model(config: Config, saved: Config, where: str) -> None:
    """Check that a config describes the model of a checkpoint.

    Args:
        config: ``model.classes`` may be empty.
        saved: config of the checkpoint.
        where: names the checkpoint in the error message.

    Raises:
        InputError: a key that affects the output of the model differs; names the first one.
    """
    for key, (given, trained) in differences(config.model, saved.model).items():
        if key in TRAINING_ONLY or (key == "classes" and not given):
            continue
        raise InputError(
            f"{where}: checkpoint of another config: model.{key} is {trained} in the checkpoint "
            f"and {given} in the config; use the config it was trained with"
        )
