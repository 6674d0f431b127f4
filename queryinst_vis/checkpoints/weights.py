"""Weights that describe their own model: safetensors with the config as metadata.

The metadata is ``{"format": "queryinst_vis/1", "config": JSON}``; the config names the classes.
Wherever weights are read, a training state (``last.ckpt``) serves too.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from queryinst_vis.checkpoints.training_state import is_training_state, load_training_state
from queryinst_vis.config import (
    Config,
    DataConfig,
    apply_overrides,
    config_from_dict,
    config_to_dict,
)
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.tracking.rules import find_rule
from queryinst_vis.utils.device import choose_device
from queryinst_vis.utils.files import atomic_path

FORMAT = "queryinst_vis/1"
CONVERT = "convert the checkpoints of other projects with 'queryinst-vis convert-checkpoint'"
TRAINING_ONLY = (
    "backbone.weights",
    "backbone.frozen_stages",
    "backbone.norm_eval",
    "backbone.drop_path",
)

StateDict = dict[str, Tensor]


def save_weights(
    path: str | Path,
    model: QueryInst,
    config: Config,
    half: bool = False,
    inference_only: bool = False,
) -> None:
    """Write the model's weights and its config as one safetensors file.

    Args:
        path: the file; it appears complete or not at all.
        half: store floating tensors as float16.
        inference_only: for passing on: without the heads that only training needs, and without
            the data paths of this machine in the config.

    Raises:
        InputError: the file cannot be written, or a weight exceeds float16 with ``half``.
    """
    if inference_only:
        model = copy.deepcopy(model).strip_training_heads()
        config = _without_local_paths(config)
    # copies, because safetensors refuses tensors that share memory
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    if half:
        state = {name: _to_half(name, value) for name, value in state.items()}
    metadata = {"format": FORMAT, "config": json.dumps(config_to_dict(config))}
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary, metadata)


def _without_local_paths(config: Config) -> Config:
    backbone = replace(config.model.backbone, weights=None)
    return replace(
        config,
        model=replace(config.model, backbone=backbone),
        data=DataConfig(),
        train=replace(config.train, init_weights=None, init_new_classes_from=None),
    )


def _to_half(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not half.isfinite().all():
        raise InputError(f"{name} exceeds the range of float16: save these weights in float32")
    return half


def load_weights(path: str | Path) -> tuple[Config, StateDict]:
    """Read the config and the tensors of a weights file or a training state, onto the CPU.

    Raises:
        InputError: no such file, a truncated file, another format, foreign weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights {path}: no such file")
    if is_training_state(path):
        state = load_training_state(path)
        return without_useless_rule(state.config), state.weights
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"weights {path}: truncated or not a safetensors file ({error}); {CONVERT}"
        ) from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"weights {path}: not written by queryinst_vis; {CONVERT}")
    try:
        values = json.loads(metadata["config"])
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(f"weights {path}: the config inside is missing or broken") from error
    return without_useless_rule(config_from_dict(values, f"weights {path}")), weights


def without_useless_rule(config: Config) -> Config:
    """The config of saved weights, its rule left open if it needs a track head that is not there.

    Older files name the default rule, ``masktrack``, whether the model has a track head or not.
    """
    tracking = config.tracking
    if config.model.track.enabled or find_rule(tracking.rule).embedding != "track_head":
        return config
    return replace(config, tracking=replace(tracking, rule=None))


def find_weights(name_or_path: str | Path) -> Path:
    """The file of weights by their name, or the path itself.

    Names are those of shipped weights and of the catalogue (``checkpoints/catalogue.py``), whose
    weights are fetched and converted on their first use.

    Raises:
        InputError: neither a file nor a name, with the names that there are; or a catalogued
            checkpoint that could not be fetched.
    """
    # a converted checkpoint is written by this module, so that it cannot import the converter
    from queryinst_vis.checkpoints.catalogue import CATALOGUE, obtain

    name, shipped = str(name_or_path), shipped_weights()
    if name in shipped:
        return shipped[name]
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    if name in CATALOGUE:
        return obtain(name)
    raise InputError(
        f"weights '{name}': neither a file nor the name of weights that ship "
        f"({', '.join(shipped) or 'none are installed'}) or are fetched on first use "
        f"({', '.join(CATALOGUE)})"
    )


def shipped_weights() -> dict[str, Path]:
    """The weights that come with the package, by name."""
    folder = Path(str(resources.files("queryinst_vis"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


@torch.inference_mode(False)  # for callers inside of it: what is made there knows no gradients
def load_model(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[QueryInst, Config]:
    """The model of a checkpoint for inference (eval mode, float32), and its config.

    Args:
        name_or_path: a name or a file, as for ``find_weights``.
        device: ``"auto"`` takes the accelerator where there is one.
        overrides: dotlist changes of the inference, tracking and input keys; the model itself
            is fixed by its weights.

    Raises:
        InputError: unknown name, unreadable file, weights that do not fit their config, an
            override of the model, an unknown device.
    """
    path = find_weights(name_or_path)
    config, weights = load_weights(path)
    model = build_for_inference(config, weights, f"weights {path}")
    changed = apply_overrides(config, overrides or [])
    for key in differences(config.model, changed.model):
        raise InputError(f"override of model.{key}: the model is fixed by its weights, {path}")
    return model.to(choose_device(device)), changed


def load_for_config(config: Config, name_or_path: str | Path) -> tuple[QueryInst, Config]:
    """The model of a checkpoint as ``load_model`` gives it, on the CPU, for another config.

    Returns:
        The model, and ``config`` with the model section of the checkpoint.

    Raises:
        InputError: as ``load_model``, or the config describes another model.
    """
    path = find_weights(name_or_path)
    saved, weights = load_weights(path)
    check_same_model(config, saved, f"weights {path}")
    model = build_for_inference(saved, weights, f"weights {path}")
    return model, replace(config, model=saved.model)


def build_for_inference(config: Config, weights: StateDict, where: str) -> QueryInst:
    """A model on the CPU, in eval mode and without training heads, that holds ``weights``.

    Raises:
        InputError: the weights are of another config; names the first tensor that differs.
    """
    model = build_model(config)
    training_heads = set(model.state_dict())
    model.strip_training_heads()
    training_heads -= set(model.state_dict())
    weights = {name: value for name, value in weights.items() if name not in training_heads}
    load_exactly(model, weights, where)
    return model.eval()


def load_exactly(model: QueryInst, weights: StateDict, where: str) -> None:
    """Fill the model with ``weights``, which must have its very names and shapes.

    Raises:
        InputError: a missing, surplus or differently shaped tensor; the first one is named.
    """
    own = model.state_dict()
    for name in [*own, *weights]:
        theirs, ours = _shape(weights, name), _shape(own, name)
        if theirs != ours:
            raise InputError(
                f"{where}: checkpoint of another config: {name} is {theirs} there and {ours} in "
                "this model; use the config it was trained with (train.init_weights takes "
                "whatever matches)"
            )
    model.load_state_dict(weights)


def _shape(state: StateDict, name: str) -> str:
    """Shape of a tensor as text, e.g. ``80x256``."""
    if name not in state:
        return "absent"
    return "x".join(map(str, state[name].shape)) or "a scalar"


def check_same_model(config: Config, saved: Config, where: str) -> None:
    """Check that a config asks for the very model that a checkpoint holds.

    A config without class names takes the checkpoint's.

    Raises:
        InputError: they differ in what the model computes; the first such key is named.
    """
    for key, (ours, theirs) in differences(config.model, saved.model).items():
        if key in TRAINING_ONLY or (key == "classes" and not ours):
            continue
        raise InputError(
            f"{where}: checkpoint of another config: model.{key} is {theirs} there and {ours} in "
            "the config; use the config it was trained with"
        )


def differences(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """The keys, dotted, in which two dataclasses of one kind differ, with both values."""
    ours, theirs = _flatten(asdict(first)), _flatten(asdict(second))
    return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
