"""Checkpoint conversion: import from other projects, export to mmdetection, or strip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from queryinst_vis.checkpoints import efficientnet, openmmlab
from queryinst_vis.checkpoints.openmmlab_config import (
    has_track_head,
    infer_config,
    infer_track_head,
)
from queryinst_vis.checkpoints.reading import ALLOWED_GLOBALS, Checkpoint, read_checkpoint
from queryinst_vis.checkpoints.training_state import FORMAT as STATE_FORMAT
from queryinst_vis.checkpoints.weights import FORMAT as WEIGHTS_FORMAT
from queryinst_vis.checkpoints.weights import (
    StateDict,
    build_for_inference,
    check_fits,
    load_weights,
    save_weights,
    write_tensors,
)
from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.utils.files import atomic_path, check_not_read
from queryinst_vis.utils.tensor_files import is_safetensors, read_safetensors, read_torch_file

OWN_SUFFIXES = (".safetensors", ".ckpt")

Report = Callable[[str], None]


def convert_checkpoint(src: str | Path, dst: str | Path, report: Report | None = None) -> str:
    """Convert a checkpoint; the file names determine the direction.

    To ``*.safetensors``, from one of these formats:

    * QueryInst of the official repository or of mmdetection 2 or 3, with a ResNet, ResNeXt or
      Swin backbone: written with its config, ready for ``test-image``, ``track`` and
      ``train.init_weights``;
    * MaskTrack R-CNN of its repository, of mmtracking or of mmdetection 3: its track head, for
      ``train.init_weights``;
    * the ImageNet weights of EfficientNet-PyTorch's Lite0 to Lite4: written with timm's key
      names, for ``model.backbone.weights``;
    * weights of this package: written for distribution, in half precision, without the mask heads
      used only in training and without local paths.

    To ``*.pth``, from weights of this package: for mmdetection 3.

    Args:
        src: a ``.pth`` file, or a ``.safetensors`` or ``.ckpt`` of this package; no code in it is
            executed.
        dst: the file to write.
        report: called with a line for each key of ``src`` without a counterpart in the model.

    Returns:
        A one-line summary of what was converted.

    Raises:
        InputError: unreadable or unknown checkpoint, a missing weight, or a model that
            mmdetection does not support; nothing is written.

    Example::

        print(queryinst_vis.convert_checkpoint("mine.safetensors", "published.safetensors"))
    """
    src, dst = Path(src), Path(dst)
    check_not_read(dst, src)
    if dst.suffix == ".pth" and src.suffix in OWN_SUFFIXES:
        return _export(src, dst)
    if dst.suffix != ".safetensors":
        raise InputError(
            f"{dst}: the converted checkpoint must be named *.safetensors; weights of this package "
            "(*.safetensors, *.ckpt) can also be exported to *.pth, for mmdetection"
        )
    if src.suffix in OWN_SUFFIXES and _is_native(src):
        return _slim_down(src, dst)
    checkpoint = read_checkpoint(src)
    try:
        if efficientnet.FIRST_KEY in checkpoint.state_dict:
            return _convert_efficientnet(checkpoint, dst)
        return _convert_openmmlab(checkpoint, dst, report)
    except InputError as error:
        raise InputError(f"checkpoint {src}: {error}") from error


def _is_native(src: Path) -> bool:
    """Whether a file was written by this package; other formats use the same suffixes."""
    if not src.is_file():
        raise InputError(f"weights {src}: no such file")
    if is_safetensors(src):
        return read_safetensors(src, "weights")[0].get("format") == WEIGHTS_FORMAT
    content = read_torch_file(src, "checkpoint", ALLOWED_GLOBALS)
    return isinstance(content, dict) and content.get("format") == STATE_FORMAT


def _convert_efficientnet(checkpoint: Checkpoint, dst: Path) -> str:
    name, weights = efficientnet.convert_state_dict(checkpoint.state_dict)
    write_tensors(dst, weights)
    return f"{dst}: timm's {name}, {len(weights)} tensors"


def _convert_openmmlab(checkpoint: Checkpoint, dst: Path, report: Report | None) -> str:
    weights, unexpected_keys = openmmlab.translate(checkpoint.state_dict)
    if "queries" not in weights and not has_track_head(weights):
        raise InputError(
            "neither a QueryInst nor a track head of OpenMMLab's projects, nor an "
            "EfficientNet-Lite of EfficientNet-PyTorch; its first key is "
            f"'{next(iter(checkpoint.state_dict))}'"
        )
    if report is not None:
        for key in unexpected_keys:
            report(f"skipped {key}: no counterpart in the model")
    final_relu = openmmlab.has_final_relu(checkpoint.state_dict)
    if "queries" not in weights:
        return _write_track_head(weights, final_relu, dst)
    config = infer_config(weights, final_relu, checkpoint.classes)
    with torch.device("meta"):  # only names and shapes are compared
        model = build_model(config)
    check_fits(model, weights, "converted")
    write_tensors(dst, _to_float32(weights), config)
    tracks = " and a track head" if config.model.track.enabled else ""
    return (
        f"{dst}: QueryInst, {config.model.backbone.name}, {config.model.num_queries} queries, "
        f"{len(config.model.classes)} classes{tracks}, {len(weights)} tensors"
    )


def _write_track_head(weights: StateDict, final_relu: bool, dst: Path) -> str:
    """Write a file for ``train.init_weights`` with only a track head."""
    head = {name: value for name, value in weights.items() if name.startswith("track_head.")}
    config = Config()
    config.model.track = infer_track_head(weights, final_relu)
    write_tensors(dst, head, config)
    required = "true" if final_relu else "false"
    return f"{dst}: only a track head, for models with model.track.final_relu={required}"


def _slim_down(src: Path, dst: Path) -> str:
    config, weights = load_weights(src)
    model = build_for_inference(config, weights, f"weights {src}")
    save_weights(dst, model, config, half=True, inference_only=True)
    return f"{dst}: inference weights in half precision, {dst.stat().st_size / 1e6:.1f} MB"


def _export(src: Path, dst: Path) -> str:
    config, weights = load_weights(src)
    mask, track = config.model.mask, config.model.track
    if not mask.dynamic or mask.norm == "GN":
        raise InputError(
            f"weights {src}: mmdetection's QueryInst supports only dynamic mask heads with batch "
            "norm or without a norm, unlike these (model.mask)"
        )
    try:
        exported = openmmlab.export_state_dict(_to_float32(weights), track.final_relu)
    except InputError as error:
        raise InputError(f"weights {src}: {error}") from error
    meta = {"dataset_meta": {"classes": config.model.classes}}
    with atomic_path(dst) as temporary:
        torch.save({"meta": meta, "state_dict": exported}, temporary)
    renamed_all = track.final_relu or not track.enabled
    exception = "" if renamed_all else ", except the track head (no ReLU)"
    return f"{dst}: with mmdetection's key names{exception}, {len(exported)} tensors"


def _to_float32(weights: StateDict) -> StateDict:
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
