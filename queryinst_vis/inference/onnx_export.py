"""Export to ONNX: detector and embedding as one graph of static size."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError, first_line
from queryinst_vis.inference.exported_graph import (
    INPUTS,
    LastStage,
    describe,
    example_inputs,
    quiet,
    require_packages,
)
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.files import atomic_path

FORMAT = "queryinst_vis/onnx/1"
OPSET = 20  # half-pixel RoiAlign needs 16, DeformConv 19; onnxruntime supports 20 since 1.17


def export_onnx(
    model: QueryInst, config: Config, path: str | Path, height: int, width: int, batch: int = 1
) -> list[str]:
    """Export a model to ONNX.

    ``exported_graph.LastStage`` describes the inputs and outputs.

    Args:
        model: as from ``load_model``, on any device; not modified.
        config: config of the model; its ``model``, ``input``, ``inference`` and ``tracking`` keys
            are stored in the file.
        path: the file, written atomically.
        height: height of the network input in pixels, a multiple of 32.
        width: width of the network input in pixels, a multiple of 32.
        batch: batch size.

    Returns:
        The names of the outputs.

    Raises:
        InputError: an invalid size, a suffix other than ``.onnx``, missing packages, a model that
            ONNX cannot represent or whose weights do not fit into one file, or the file cannot be
            written.

    Example::

        model, config = queryinst_vis.load_model("people")
        queryinst_vis.export_onnx(model, config, "people.onnx", height=288, width=512)
    """
    require_packages("ONNX", "onnx", "onnxscript")
    path = Path(path)
    if path.suffix != ".onnx":
        raise InputError(f"{path}: the file name of an ONNX model must end in .onnx")
    example = example_inputs(height, width, batch)
    graph = LastStage(copy.deepcopy(model).cpu()).eval()
    with atomic_path(path) as temporary, quiet("onnxscript"):
        program = _translate(graph, example, config)
        program.model.metadata_props.update(describe(config, FORMAT))
        _save_as_one_file(program, temporary)
    return graph.output_names


def _save_as_one_file(program: torch.onnx.ONNXProgram, path: Path) -> None:
    """Save the model; PyTorch writes weights above 1.6 GB to a second file.

    Raises:
        InputError: the weights are too large for one file; no second file remains.
    """
    second = path.with_name(f"{path.name}.data")
    try:
        program.save(path)
        if second.exists():
            raise InputError(
                f"this model has {second.stat().st_size / 1e9:.1f} GB of weights, too large for "
                "one ONNX file; use a model with a smaller backbone"
            )
    finally:
        second.unlink(missing_ok=True)


def _translate(
    graph: LastStage, example: tuple[Tensor, Tensor], config: Config
) -> torch.onnx.ONNXProgram:
    try:
        program = torch.onnx.export(
            graph,
            example,
            input_names=INPUTS,
            output_names=graph.output_names,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        # the message itself is many lines of advice for developers
        reason = first_line(error.__cause__ or error)
        raise InputError(
            f"PyTorch {torch.__version__} cannot export this model to ONNX with the backbone "
            f"{config.model.backbone.name}: {reason}"
        ) from error
    assert program is not None  # only None for the old exporter
    return program
