"""Inference with exported ONNX files in onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.inference.exported_graph import INPUTS, require_packages
from queryinst_vis.inference.exported_model import ExportedModel, Network, read_config
from queryinst_vis.inference.onnx_export import FORMAT
from queryinst_vis.utils.tensor_files import check_readable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
FIXED = ("model.", "inference.precision", "inference.compile")
COMMAND = "export-onnx"


def load_onnx_model(
    path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[ExportedModel, Config]:
    """Load an exported model and its config.

    Args:
        path: a file written by ``export_onnx``.
        device: ``"cuda"``; ``"cpu"``, with PyTorch's number of threads; ``"auto"``: the GPU if
            onnxruntime-gpu finds one.
        overrides: dotlist overrides of ``inference``, ``tracking`` and ``input`` keys; the graph
            itself is fixed.

    Raises:
        InputError: a missing or invalid file, an override of a fixed key, a device that onnxruntime
            does not support, or onnxruntime is not installed.
    """
    require_packages("ONNX", "onnxruntime")
    path = Path(path)
    session = _open(path, _choose_providers(str(device)))
    metadata = session.get_modelmeta().custom_metadata_map
    config = read_config(metadata, FORMAT, overrides or [], FIXED, f"ONNX file {path}", COMMAND)
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        return session.run(names, dict(zip(INPUTS, (images, sizes), strict=True)))

    shape = session.get_inputs()[0].shape
    return ExportedModel(Network(run, shape, names, path, COMMAND)), config


def _choose_providers(device: str) -> list[str]:
    """The execution providers to use, in order of preference."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    names = [name for name, provider in PROVIDERS.items() if provider in available]
    if device not in ("auto", *names):
        raise InputError(
            f"device '{device}': this onnxruntime has {', '.join(names)}; CUDA requires the "
            "package onnxruntime-gpu instead of onnxruntime"
        )
    # operators that the GPU does not support run on the CPU
    return [PROVIDERS[name] for name in names if device != "cpu" or name == "cpu"]


def _open(path: Path, providers: list[str]) -> InferenceSession:
    import onnxruntime

    check_readable(path, "ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # spinning threads would take cores from decoding, tracking and PyTorch
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; warnings concern nodes of the graph
    try:
        return onnxruntime.InferenceSession(path, options, providers)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise InputError(
            f"ONNX file {path}: broken, or not for onnxruntime {onnxruntime.__version__} ({error})"
        ) from error
