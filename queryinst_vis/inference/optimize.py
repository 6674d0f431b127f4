"""Optimizing a model for inference: precision, inference form and compilation."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable

import torch

from queryinst_vis.config import Config
from queryinst_vis.data.transforms import padded_size
from queryinst_vis.errors import InputError
from queryinst_vis.inference.precision import (
    AUTO,
    BF16,
    FLOAT32,
    candidates,
    check_precision,
    fastest,
    inference_dtype,
    with_precision,
)
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.cuda.inference_form import to_cuda_form
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.device import plain_defaults


@plain_defaults()
def optimize_for_inference(model: QueryInst, config: Config) -> tuple[QueryInst, Config]:
    """Convert a model to its fastest form for inference, according to ``config.inference``.

    Args:
        model: on its device; modified in place. It can no longer be trained, saved or moved to
            another device.
        config: ``inference.precision`` and ``inference.compile`` are used.

    Returns:
        The model, and the config with the precision ``auto`` resolved.

    Raises:
        InputError: an unknown precision, or ``inference.compile`` without a compiler.
    """
    config = settle_precision(model, config)
    dtype = inference_dtype(config)
    if model.device.type == "cuda":
        to_cuda_form(model, dtype)
    else:
        check_precision(model.device, config)
        to_inference_form(model, dtype)
    if config.inference.compile:
        _check_compiler(model.device)
        # shapes in the heads depend on the detections, those in the backbone on the frame size
        model.backbone.compile(dynamic=False)
    return model, config


@plain_defaults()
def settle_precision(model: QueryInst, config: Config) -> Config:
    """Resolve ``inference.precision=auto`` to the fastest precision on this machine.

    On a CPU with bf16 instructions, copies of the model in float32 and bf16 are timed on an image
    of the network input size. On a GPU: bf16 if it is supported natively.

    Args:
        model: on its device; not modified.
        config: config of the model.
    """
    if config.inference.precision != AUTO:
        return config
    if model.device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return with_precision(config, BF16 if has_bf16 else FLOAT32)
    if model.device.type != "cpu":
        return with_precision(config, FLOAT32)
    tried = [with_precision(config, name) for name in candidates(config)]
    return with_precision(
        config, fastest({each.inference.precision: _blank_run(model, each) for each in tried})
    )


def _blank_run(model: QueryInst, config: Config) -> Callable[[], None]:
    """A function that runs a copy of the network, including all masks, on a blank image."""
    dtype = inference_dtype(config)
    size = padded_size([(config.input.test_short, config.input.test_long)])
    copied = to_inference_form(copy.deepcopy(model), dtype)

    @torch.inference_mode()
    def run() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = copied(torch.zeros(1, 3, *size), [size])
            copied.mask_logits(-1, output, [torch.arange(len(copied.queries))])

    return run


def _check_compiler(device: torch.device) -> None:
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(name) is None:
        raise InputError(
            f"inference.compile: requires a C++ compiler on a CPU, but '{name}' was not found; "
            "install one, set the environment variable CXX, or leave the option out"
        )
