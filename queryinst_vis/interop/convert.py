"""``convert-checkpoint``: recognise whose checkpoint it is, and bring it in."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from queryinst_vis.engine.checkpoint import load_exactly, load_model, save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.files import atomic_path
from queryinst_vis.interop import efficientnet, openmmlab
from queryinst_vis.models.build import build_model


def convert_checkpoint(src: str | Path, dst: str | Path) -> str:
    """Convert a checkpoint to safetensors.

    Three layouts are known: QueryInst of mmdetection 3.x with a ResNet backbone (written with
    its config, ready for ``test-image`` and ``train.init_weights``), the ImageNet weights of
    EfficientNet-PyTorch's Lite0 (written under timm's names, for ``model.backbone.weights``),
    and our own of a training (written for passing on: in half precision, without the mask
    heads that only training needs and without paths of this machine).

    Args:
        src: a ``.pth`` file, or a ``.safetensors`` or ``.ckpt`` of ours; nothing in it is
            executed.
        dst: the ``.safetensors`` file to write.

    Returns:
        A line that says what was converted.

    Raises:
        InputError: unreadable or unknown checkpoint; nothing is written then.
    """
    src, dst = Path(src), Path(dst)
    if dst.suffix != ".safetensors":
        raise InputError(f"{dst}: the converted checkpoint must be named *.safetensors")
    if src.suffix in (".safetensors", ".ckpt"):
        return _slim_down(src, dst)
    state_dict = _read(src)
    try:
        if efficientnet.FIRST_KEY in state_dict:
            _write_plain(dst, efficientnet.convert_state_dict(state_dict))
            return f"{dst}: EfficientNet-Lite0 under timm's names, {len(state_dict)} tensors"
        if openmmlab.FIRST_KEY in state_dict:
            return _convert_queryinst(state_dict, dst)
    except InputError as error:
        raise InputError(f"checkpoint {src}: {error}") from error
    raise InputError(
        f"checkpoint {src}: neither an mmdetection QueryInst nor an EfficientNet-Lite0 of "
        f"EfficientNet-PyTorch; its first key is '{next(iter(state_dict))}'"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file, from under ``state_dict`` where it has one."""
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {path}: holds more than tensors, or is no checkpoint; it is not executed. "
            "Save its state_dict alone with torch.save and convert that"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"checkpoint {path}: truncated or not a checkpoint ({reason})") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not content:
        raise InputError(f"checkpoint {path}: holds no state_dict")
    strays = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strays:
        raise InputError(f"checkpoint {path}: '{strays[0]}' in it is not a tensor")
    return content


def _convert_queryinst(state_dict: dict[str, Tensor], dst: Path) -> str:
    weights = openmmlab.convert_state_dict(state_dict)
    config = openmmlab.infer_config(weights)
    model = build_model(config)
    load_exactly(model, weights, "converted")
    save_weights(dst, model, config)
    return (
        f"{dst}: QueryInst, {config.model.backbone.name}, {config.model.num_queries} queries, "
        f"{len(config.model.classes)} classes, {len(weights)} tensors"
    )


def _slim_down(src: Path, dst: Path) -> str:
    model, config = load_model(src, "cpu")
    save_weights(dst, model, config, half=True, inference_only=True)
    return f"{dst}: inference weights in half precision, {dst.stat().st_size / 1e6:.1f} MB"


def _write_plain(path: Path, weights: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, temporary)
