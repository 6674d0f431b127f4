"""``convert-checkpoint``: other projects' weights into our names, and ours into mmdetection's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from queryinst_vis.checkpoints import efficientnet, openmmlab
from queryinst_vis.checkpoints.openmmlab_config import (
    has_track_head,
    infer_config,
    infer_track_head,
)
from queryinst_vis.checkpoints.reading import Checkpoint, read_checkpoint
from queryinst_vis.checkpoints.weights import (
    FORMAT,
    load_exactly,
    load_model,
    load_weights,
    save_weights,
)
from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.utils.files import atomic_path, check_not_read

OURS = (".safetensors", ".ckpt")

Report = Callable[[str], None]


def convert_checkpoint(src: str | Path, dst: str | Path, report: Report | None = None) -> str:
    """Convert a checkpoint; the names of the files say in which direction.

    To ``*.safetensors``, from one of these layouts:

    * QueryInst of the official repository or of mmdetection 2 or 3, with a ResNet, ResNeXt or
      Swin backbone: written with its config, ready for ``test-image``, ``track`` and
      ``train.init_weights``;
    * MaskTrack R-CNN of its repository, of mmtracking or of mmdetection 3: its track head, for
      ``train.init_weights``;
    * the ImageNet weights of EfficientNet-PyTorch's Lite0: written under timm's names, for
      ``model.backbone.weights``;
    * our own of a training: written for passing on, in half precision, without the mask heads
      that only training needs and without paths of this machine.

    To ``*.pth``, from our own: what mmdetection 3 loads.

    Args:
        src: a ``.pth`` file, or a ``.safetensors`` or ``.ckpt`` of ours; nothing in it is
            executed.
        dst: the file to write.
        report: called with a line for each key of ``src`` that has no place in our model.

    Returns:
        A line that says what was converted.

    Raises:
        InputError: unreadable or unknown checkpoint, one that lacks a weight, or a model that
            mmdetection does not have; nothing is written then.
    """
    src, dst = Path(src), Path(dst)
    check_not_read(dst, src)
    if dst.suffix == ".pth" and src.suffix in OURS:
        return _export(src, dst)
    if dst.suffix != ".safetensors":
        raise InputError(
            f"{dst}: the converted checkpoint must be named *.safetensors; weights of ours "
            "(*.safetensors, *.ckpt) also become *.pth, for mmdetection"
        )
    if src.suffix in OURS:
        return _slim_down(src, dst)
    checkpoint = read_checkpoint(src)
    try:
        if efficientnet.FIRST_KEY in checkpoint.state_dict:
            return _convert_efficientnet(checkpoint, dst)
        return _convert_openmmlab(checkpoint, dst, report)
    except InputError as error:
        raise InputError(f"checkpoint {src}: {error}") from error


def _convert_efficientnet(checkpoint: Checkpoint, dst: Path) -> str:
    weights = efficientnet.convert_state_dict(checkpoint.state_dict)
    _write(dst, weights)
    return f"{dst}: EfficientNet-Lite0 under timm's names, {len(weights)} tensors"


def _convert_openmmlab(checkpoint: Checkpoint, dst: Path, report: Report | None) -> str:
    weights, homeless = openmmlab.translate(checkpoint.state_dict)
    if "queries" not in weights and not has_track_head(weights):
        raise InputError(
            "neither a QueryInst nor a track head of OpenMMLab's projects, nor an "
            "EfficientNet-Lite0 of EfficientNet-PyTorch; its first key is "
            f"'{next(iter(checkpoint.state_dict))}'"
        )
    for key in homeless if report else ():
        report(f"no place for {key}")
    final_relu = openmmlab.has_final_relu(checkpoint.state_dict)
    if "queries" not in weights:
        return _write_track_head(weights, final_relu, dst)
    config = infer_config(weights, final_relu, checkpoint.classes)
    model = build_model(config)
    load_exactly(model, weights, "converted")
    save_weights(dst, model, config)
    tracks = " and a track head" if config.model.track.enabled else ""
    return (
        f"{dst}: QueryInst, {config.model.backbone.name}, {config.model.num_queries} queries, "
        f"{len(config.model.classes)} classes{tracks}, {len(weights)} tensors"
    )


def _write_track_head(weights: dict[str, Tensor], final_relu: bool, dst: Path) -> str:
    """A file that ``train.init_weights`` takes, although it holds no whole model."""
    head = {name: value for name, value in weights.items() if name.startswith("track_head.")}
    config = Config()
    config.model.track = infer_track_head(weights, final_relu)
    _write(dst, head, {"format": FORMAT, "config": json.dumps(config_to_dict(config))})
    needed = "true" if final_relu else "false"
    return f"{dst}: a track head alone, for models with model.track.final_relu={needed}"


def _slim_down(src: Path, dst: Path) -> str:
    model, config = load_model(src, "cpu")
    save_weights(dst, model, config, half=True, inference_only=True)
    return f"{dst}: inference weights in half precision, {dst.stat().st_size / 1e6:.1f} MB"


def _export(src: Path, dst: Path) -> str:
    config, weights = load_weights(src)
    if not config.model.mask.dynamic or config.model.mask.norm == "GN":
        raise InputError(
            f"weights {src}: mmdetection's QueryInst has dynamic mask heads with batch norm or "
            "without a norm; these have others (model.mask)"
        )
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    try:
        exported = openmmlab.export_state_dict(weights, config.model.track.final_relu)
    except InputError as error:
        raise InputError(f"weights {src}: {error}") from error
    meta = {"dataset_meta": {"classes": config.model.classes}}
    with atomic_path(dst) as temporary:
        torch.save({"meta": meta, "state_dict": exported}, temporary)
    track = config.model.track
    kept = "" if track.final_relu or not track.enabled else ", but for the track head's (no ReLU)"
    return f"{dst}: under mmdetection's names{kept}, {len(exported)} tensors"


def _write(path: Path, weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    with atomic_path(path) as temporary:
        contiguous = {name: value.contiguous() for name, value in weights.items()}
        save_file(contiguous, temporary, metadata)
