"""Weights files: safetensors with the config of their model.

The metadata is ``{"format": "queryinst_vis/1", "config": JSON}``; the config contains the classes.
A training state (``last.ckpt``) is read as weights, too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from queryinst_vis.checkpoints.training_state import is_training_state, load_training_state
from queryinst_vis.config import Config, DataConfig, config_from_dict, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.tracking.rules import find_rule
from queryinst_vis.utils.device import plain_defaults
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.tensor_files import check_tensors, read_safetensors, shape_text

FORMAT = "queryinst_vis/1"
CONVERT = "convert the checkpoints of other projects with 'queryinst-vis convert-checkpoint'"

StateDict = dict[str, Tensor]


def save_weights(
    path: str | Path,
    model: QueryInst,
    config: Config,
    half: bool = False,
    inference_only: bool = False,
) -> None:
    """Write a model's weights and config as one safetensors file.

    Args:
        path: the file, written atomically.
        model: on any device; not modified.
        config: of the model.
        half: store floating-point tensors as float16.
        inference_only: for distribution: without the heads used only in training, and without
            local paths in the config.

    Raises:
        InputError: the file cannot be written, or a weight exceeds float16 with ``half``.
    """
    if inference_only:
        model = copy.deepcopy(model).strip_training_heads()
        config = _without_local_paths(config)
    # cloned, because safetensors rejects tensors that share memory
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    if half:
        weights = {name: _to_half(name, value) for name, value in weights.items()}
    write_tensors(path, weights, config)


def write_tensors(path: str | Path, tensors: StateDict, config: Config | None = None) -> None:
    """Write tensors as a safetensors file, atomically.

    Args:
        path: the file.
        tensors: on the CPU, without shared memory.
        config: of their model; None: a file without metadata, with the names of another
            project.

    Raises:
        InputError: the file cannot be written.
    """
    metadata = None
    if config is not None:
        metadata = {"format": FORMAT, "config": json.dumps(config_to_dict(config))}
    with atomic_path(path) as temporary:
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        # safetensors' save_file uses a temporary file that would be left over after a kill
        temporary.write_bytes(save(contiguous, metadata))


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
        InputError: the file is missing, truncated, not written by this package, or has
            non-finite weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights {path}: no such file")
    if is_training_state(path):
        state = load_training_state(path)
        return _without_unusable_rule(state.config), state.weights
    try:
        metadata, weights = read_safetensors(path, "weights")
    except InputError as error:
        raise InputError(f"{error}; {CONVERT}") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"weights {path}: not written by queryinst_vis; {CONVERT}")
    check_tensors(weights, f"weights {path}")
    return config_from_metadata(metadata, f"weights {path}"), weights


def config_from_metadata(metadata: Mapping[str, str], where: str) -> Config:
    """The config stored as JSON under ``"config"`` in a weights or ONNX file.

    Raises:
        InputError: it is missing or invalid; ``where`` names the file.
    """
    try:
        values = json.loads(metadata["config"])
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: the config in the file is missing or invalid") from error
    return _without_unusable_rule(config_from_dict(values, where))


def _without_unusable_rule(config: Config) -> Config:
    """The config with ``tracking.rule`` unset if it needs a track head that the model lacks.

    Older files contain the default rule, ``masktrack``, even without a track head.
    """
    tracking = config.tracking
    if config.model.track.enabled or find_rule(tracking.rule).embedding != "track_head":
        return config
    return replace(config, tracking=replace(tracking, rule=None))


def build_for_inference(config: Config, weights: StateDict, where: str) -> QueryInst:
    """Build a model with these weights: on the CPU, in eval mode, without training heads.

    Raises:
        InputError: the weights do not fit the config; names the first tensor that differs.
    """
    with torch.device("meta"):  # only names and shapes: no allocation for invalid weights
        skeleton = build_model(config)
    training_heads = set(skeleton.state_dict())
    skeleton.strip_training_heads()
    training_heads -= set(skeleton.state_dict())
    weights = {name: value for name, value in weights.items() if name not in training_heads}
    check_fits(skeleton, weights, where)
    with torch.random.fork_rng(devices=[]), plain_defaults():  # keep the caller's random state
        model = build_model(config).strip_training_heads()
    model.load_state_dict(weights)
    return model.eval()


def load_exactly(model: QueryInst, weights: StateDict, where: str) -> None:
    """Load weights that must match the model in every name and shape.

    Raises:
        InputError: a missing, unexpected or differently shaped tensor; names the first one.
    """
    check_fits(model, weights, where)
    model.load_state_dict(weights)


def check_fits(model: QueryInst, weights: StateDict, where: str) -> None:
    """Check that weights match a model, which may be on the meta device, in names and shapes.

    Raises:
        InputError: as ``load_exactly``.
    """
    state = model.state_dict()
    for name in [*state, *weights]:
        found, expected = _kind(weights, name), _kind(state, name)
        if found != expected:
            raise InputError(
                f"{where}: checkpoint of another config: {name} is {found} in the checkpoint and "
                f"{expected} in the model; use the config it was trained with "
                "(train.init_weights copies whatever matches)"
            )


def _kind(state: StateDict, name: str) -> str:
    """Shape of a tensor as text, such as ``80x256``, and whether it contains integers."""
    if name not in state:
        return "absent"
    value = state[name]
    return shape_text(value) + ("" if value.is_floating_point() else " of integers")
