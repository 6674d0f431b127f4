"""ONNX files: detector and embedding as one graph of static size, which runs by itself."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.config import Config
from queryinst_vis.errors import InputError
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
OPSET = 20  # RoiAlign with half pixels needs 16, DeformConv 19; onnxruntime knows 20 since 1.17


def export_onnx(
    model: QueryInst, config: Config, path: str | Path, height: int, width: int, batch: int = 1
) -> list[str]:
    """Write a model as an ONNX file.

    Inputs and outputs are those of ``exported_graph.LastStage``.

    Args:
        model: as ``load_model`` gives it, on any device; not modified.
        config: of the model; ``model``, ``input``, ``inference`` and ``tracking`` go into the file.
        path: the file, written atomically.
        height: H in pixels, a multiple of 32.
        width: W in pixels, a multiple of 32.
        batch: B.

    Returns:
        The names of the outputs.

    Raises:
        InputError: a size that the model cannot have, missing packages, a model that ONNX cannot
            express or whose weights are too many for one file, or the file cannot be written.

    Example::

        model, config = queryinst_vis.load_model("people")
        queryinst_vis.export_onnx(model, config, "people.onnx", height=288, width=512)
    """
    require_packages("ONNX", "onnx", "onnxscript")
    example = example_inputs(height, width, batch)
    graph = LastStage(copy.deepcopy(model).cpu()).eval()
    with atomic_path(path) as temporary, quiet("onnxscript"):
        program = _translate(graph, example, config)
        program.model.metadata_props.update(describe(config, FORMAT))
        _save_as_one_file(program, temporary)
    return graph.output_names


def _save_as_one_file(program: torch.onnx.ONNXProgram, path: Path) -> None:
    """PyTorch writes the weights of models above 1.6 GB to a second file, named in the first.

    Raises:
        InputError: it did; the second file is removed.
    """
    second = path.with_name(f"{path.name}.data")
    try:
        program.save(path)
        if second.exists():
            raise InputError(
                f"this model has {second.stat().st_size / 1e9:.1f} GB of weights, too many for one "
                "ONNX file; export one with a smaller backbone"
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
        # the error itself is many lines of advice for programmers
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise InputError(
            f"PyTorch {torch.__version__} cannot express this model in ONNX, with the backbone "
            f"{config.model.backbone.name}: {reason}"
        ) from error
    assert program is not None  # as it is for exporters that give a program
    return program
