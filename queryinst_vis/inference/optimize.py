"""Making a model faster that will only infer: precision, inference form and compilation."""

from __future__ import annotations

import os
import shutil
import sys

import torch

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.cuda.inference_form import to_cuda_form
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.device import plain_defaults

DTYPES = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
"""What ``inference.precision`` may be, by Lightning Fabric's names."""


@plain_defaults()
def optimize_for_inference(model: QueryInst, config: Config) -> QueryInst:
    """Convert a model to the form in which it infers fastest, as ``config.inference`` asks.

    Args:
        model: on its device; modified in place, and no longer fit for training, saving or moving
            to another device.
        config: ``inference.precision`` and ``inference.compile`` are used.

    Raises:
        InputError: an unknown precision, or ``inference.compile`` without a compiler.
    """
    dtype = inference_dtype(config)
    if model.device.type == "cuda":
        to_cuda_form(model, dtype)
    else:
        _check_precision(model.device, dtype)
        to_inference_form(model, dtype, not config.inference.compile)
    if config.inference.compile:
        _check_compiler(model.device)
        # the shapes in the heads depend on what they find; the backbone's only on the frame size
        model.backbone.compile(dynamic=False)
    return model


def _check_precision(device: torch.device, dtype: torch.dtype) -> None:
    if dtype == torch.float16:
        raise InputError(
            f"inference.precision 16-mixed: is for CUDA devices, and this is '{device.type}'; "
            "choose 32-true or bf16-mixed"
        )


def _check_compiler(device: torch.device) -> None:
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(name) is None:
        raise InputError(
            f"inference.compile: on a CPU it takes a C++ compiler, and no '{name}' was found; "
            "install one, name yours in the environment variable CXX, or leave the option out"
        )


def inference_dtype(config: Config) -> torch.dtype:
    """The type in which matrices are multiplied.

    Raises:
        InputError: ``inference.precision`` is none of ``DTYPES``.
    """
    precision = config.inference.precision
    if precision not in DTYPES:
        raise InputError(f"inference.precision '{precision}': choose one of {', '.join(DTYPES)}")
    return DTYPES[precision]
