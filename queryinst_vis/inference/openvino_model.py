"""Inference with exported OpenVINO models, on CPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
from queryinst_vis.inference.exported_graph import INPUTS, require_packages
from queryinst_vis.inference.exported_model import ExportedModel, Network, read_config
from queryinst_vis.inference.precision import (
    candidates,
    check_precision,
    fastest,
    inference_dtype,
    with_precision,
)
from queryinst_vis.utils.files import checksum
from queryinst_vis.utils.tensor_files import check_readable

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, Model

FORMAT = "queryinst_vis/openvino/1"
FIXED = ("model.", "inference.compile")
COMMAND = "export-openvino"
RT_INFO = "queryinst_vis"
"""Section of the model's runtime information with the metadata."""
METADATA = ("format", "config", "classes", "weights_sha256")

_SENDER = "openvino_telemetry"
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Import and use OpenVINO or NNCF without telemetry.

    Both send reports before they ask for consent, but work without the package that sends them,
    whose import is blocked here. Has no effect if OpenVINO has already been imported.
    """
    missing = object()
    before = sys.modules.get(_SENDER, missing)
    sys.modules[_SENDER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[_SENDER]
        else:
            sys.modules[_SENDER] = before  # type: ignore[assignment]


def load_openvino_model(
    path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[ExportedModel, Config]:
    """Load an exported model and its config.

    Args:
        path: the ``.xml`` file of ``export_openvino``, next to its ``.bin`` file.
        device: ``"auto"`` or ``"cpu"``, with PyTorch's number of threads.
        overrides: dotlist overrides of ``inference``, ``tracking`` and ``input`` keys; the graph
            itself is fixed. ``inference.precision`` applies to operations that are not int8.

    Raises:
        InputError: a missing or invalid file, an override of a fixed key, a device other than the
            CPU, or OpenVINO is not installed.
    """
    require_packages("OpenVINO", "openvino")
    if str(device) not in ("auto", "cpu"):
        raise InputError(f"device '{device}': OpenVINO models run on the CPU here; leave it out")
    path = Path(path)
    where = f"OpenVINO model {path}"
    with no_telemetry():
        import openvino

    core = openvino.Core()
    model = _read(core, path, where)
    metadata = {name: _metadata(model, name) for name in METADATA}
    config = read_config(metadata, FORMAT, overrides or [], FIXED, where, COMMAND)
    _check_weights(path.with_suffix(".bin"), metadata["weights_sha256"], where)
    compiled, config = _compile(core, model, config, where)
    names = [output.any_name for output in model.outputs]

    def run(images: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        return list(compiled((images, sizes), share_inputs=True).values())

    shape = list(model.input(INPUTS[0]).shape)
    return ExportedModel(Network(run, shape, names, path, COMMAND)), config


def _read(core: Core, path: Path, where: str) -> Model:
    check_readable(path, "OpenVINO model")
    check_readable(path.with_suffix(".bin"), "weights of an OpenVINO model")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise _broken(where, error) from error


def _metadata(model: Model, name: str) -> str:
    if not model.has_rt_info([RT_INFO, name]):
        return ""
    return model.get_rt_info([RT_INFO, name]).astype(str)


def _check_weights(path: Path, expected: str, where: str) -> None:
    """Compare the checksum; OpenVINO itself only notices a file that is too short."""
    if checksum(path) != expected:
        raise InputError(f"{where}: {path.name} holds other weights, or is damaged; export again")


def _compile(core: Core, model: Model, config: Config, where: str) -> tuple[CompiledModel, Config]:
    """The compiled model, and the config with the precision that it runs in."""
    blank = [np.zeros(list(each.shape), np.float32) for each in model.inputs]
    compiled = {}
    for precision in candidates(config):
        tried = with_precision(config, precision)
        check_precision(torch.device("cpu"), tried)
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[inference_dtype(tried)],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled[precision] = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise _broken(where, error) from error
    chosen = fastest({name: partial(each, blank) for name, each in compiled.items()})
    return compiled[chosen], with_precision(config, chosen)


def _broken(where: str, error: RuntimeError) -> InputError:
    import openvino

    # the other lines are locations in OpenVINO's source code
    reason = str(error).strip().splitlines()[-1]
    version = openvino.get_version()
    return InputError(f"{where}: broken, or not for OpenVINO {version} ({reason})")
