"""Export to OpenVINO, for the fastest inference on CPUs: in float32 or mostly int8."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.config import Config
from queryinst_vis.data.transforms import network_input
from queryinst_vis.errors import InputError, first_line
from queryinst_vis.inference.exported_graph import (
    LastStage,
    describe,
    example_inputs,
    quiet,
    require_packages,
)
from queryinst_vis.inference.exported_model import Shape, graph_inputs
from queryinst_vis.inference.openvino_model import FORMAT, RT_INFO, no_telemetry
from queryinst_vis.inference.quantize import module_names, quantize
from queryinst_vis.models.folding import fold_batch_norms
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.files import atomic_path, checksum, files_together

if TYPE_CHECKING:
    from openvino import Model


def export_openvino(
    model: QueryInst,
    config: Config,
    path: str | Path,
    height: int,
    width: int,
    batch: int = 1,
    calibration: Iterable[np.ndarray] | None = None,
) -> list[str]:
    """Export a model to OpenVINO, as ``NAME.xml`` and ``NAME.bin``.

    ``exported_graph.LastStage`` describes the inputs and outputs. No telemetry is sent.

    Args:
        model: as from ``load_model``, on any device; not modified.
        config: config of the model; its ``model``, ``input``, ``inference`` and ``tracking`` keys
            are stored in the file.
        path: the ``.xml`` file, which is published together with the ``.bin`` file.
        height: height of the network input in pixels, a multiple of 32.
        width: width of the network input in pixels, a multiple of 32.
        batch: batch size.
        calibration: for int8, representative frames, ``(H, W, 3)`` uint8 RGB, which determine the
            range of each activation. None: float32.

    Returns:
        The names of the outputs.

    Raises:
        InputError: an invalid size, frames that do not fit it, a suffix other than ``.xml``,
            missing packages, a model that OpenVINO cannot represent, or the files cannot be
            written.

    Example::

        model, config = queryinst_vis.load_model("people")
        queryinst_vis.export_openvino(model, config, "people.xml", height=288, width=512)
    """
    require_packages("OpenVINO", "openvino", *([] if calibration is None else ["nncf"]))
    path = Path(path)
    if path.suffix != ".xml":
        raise InputError(f"{path}: the file name of an OpenVINO model must end in .xml")
    shape = batch, 3, height, width
    example = example_inputs(height, width, batch)  # checks the size
    samples = None if calibration is None else _read_samples(calibration, config, shape)
    folded = copy.deepcopy(model).cpu().eval().strip_training_heads()
    fold_batch_norms(folded)  # OpenVINO would, too, but lose the names of the modules
    graph = LastStage(folded).eval()
    with no_telemetry():
        translated, places = _translate(graph, example, config)
        if samples is not None:
            translated = quantize(translated, places, samples)
        _write(translated, graph.output_names, config, path)
    return graph.output_names


def _read_samples(
    frames: Iterable[np.ndarray], config: Config, shape: Shape
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of frames as inputs of a graph with this shape."""
    samples, remaining = [], iter(frames)
    while group := list(islice(remaining, shape[0])):
        images, sizes = network_input(group, config)
        if images.shape[2] > shape[2] or images.shape[3] > shape[3]:
            raise InputError(
                f"calibration frames: their network input of {images.shape[3]}x"
                f"{images.shape[2]} does not fit into {shape[3]}x{shape[2]}; export for "
                "that size, or lower input.test_long and input.test_short"
            )
        samples.append(graph_inputs(images, sizes, shape))
    if not samples:
        raise InputError("int8 needs at least one calibration frame")
    return samples


def _translate(
    graph: LastStage, example: tuple[Tensor, Tensor], config: Config
) -> tuple[Model, dict[str, str]]:
    """The OpenVINO model, and the name of the module that each operation comes from."""
    import openvino
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(graph.requires_grad_(False), example, strict=False)
            decoder = TorchFXPythonDecoder.from_exported_program(program)
            shapes = [list(each.shape) for each in example]
            model = openvino.convert_model(decoder, input=shapes)
    except Exception as error:  # neither library documents its exceptions
        reason = first_line(error)
        raise InputError(
            f"OpenVINO {openvino.get_version()} cannot represent this model with the backbone "
            f"{config.model.backbone.name}: {reason}"
        ) from error
    return model, module_names(decoder.pt_module)


def _write(model: Model, output_names: list[str], config: Config, path: Path) -> None:
    """Write both files; the ``.xml`` contains the checksum of the ``.bin``."""
    import openvino

    for output, name in zip(model.outputs, output_names, strict=True):
        output.set_names({name})
    for name, value in describe(config, FORMAT).items():
        model.set_rt_info(value, [RT_INFO, name])
    weights = path.with_suffix(".bin")
    with files_together(), atomic_path(weights) as bin_file, atomic_path(path) as xml_file:
        openvino.serialize(model, xml_file, bin_file)
        model.set_rt_info(checksum(bin_file), [RT_INFO, "weights_sha256"])
        openvino.serialize(model, xml_file, bin_file)
