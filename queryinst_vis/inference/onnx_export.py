"""ONNX files: detector and embedding as one graph of static size, which runs by itself.

The file's metadata is ``{"format": "queryinst_vis/onnx/1", "config": JSON, "classes": JSON}``; the
config holds what running the model needs, the classes are the names of the labels.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor, assign_levels, to_rois
from queryinst_vis.utils.files import atomic_path

FORMAT = "queryinst_vis/onnx/1"
INPUTS = ("images", "image_sizes")
OPSET = 20  # RoiAlign with half pixels needs 16, DeformConv 19; onnxruntime knows 20 since 1.17
DIVISOR = 32  # the coarsest map of the backbone has this stride


def export_onnx(
    model: QueryInst, config: Config, path: str | Path, height: int, width: int, batch: int = 1
) -> list[str]:
    """Write a model as an ONNX file.

    Inputs, float32: ``images`` ``(B, 3, H, W)``, normalised and padded at right and bottom, and
    ``image_sizes`` ``(B, 2)``, the height and width of each image without the padding. Outputs,
    float32, of the last stage for all N queries and K classes:

    * ``class_logits`` ``(B, N, K)``;
    * ``boxes`` ``(B, N, 4)``, xyxy in input pixels;
    * ``mask_logits`` ``(B, N, K, 28, 28)``, inside the boxes;
    * ``queries`` ``(B, N, C)``, which ``tracking.rule=query`` compares;
    * ``embeddings`` ``(B, N, D)`` of the track head, if the model has one.

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
    require_packages("onnx", "onnxscript")
    _check_size(height, width, batch)
    graph = _LastStage(copy.deepcopy(model).cpu()).eval()
    example = (
        torch.zeros(batch, 3, height, width),
        torch.tensor([[height, width]], dtype=torch.float32).repeat(batch, 1),
    )
    with atomic_path(path) as temporary, _quiet("onnxscript"):
        program = _translate(graph, example, config)
        program.model.metadata_props.update(_metadata(config))
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


def require_packages(*names: str) -> None:
    """Check that optional packages are installed.

    Raises:
        InputError: some are not; names them, and the extra that brings them.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"ONNX needs the packages {', '.join(missing)}: pip install 'queryinst-vis[onnx]'"
        )


def _check_size(height: int, width: int, batch: int) -> None:
    if batch < 1:
        raise InputError(f"batch must be 1 or more, got {batch}")
    near = [max(-(-side // DIVISOR), 1) * DIVISOR for side in (width, height)]
    if near != [width, height]:
        raise InputError(
            f"size {width}x{height}: both sides of the network input must be multiples of "
            f"{DIVISOR}; {near[0]}x{near[1]} has room for such frames"
        )


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Silence a library's warnings."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _translate(
    graph: _LastStage, example: tuple[Tensor, Tensor], config: Config
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


def _metadata(config: Config) -> dict[str, str]:
    """What running the file needs; nothing about data sets, training or this machine."""
    backbone = replace(config.model.backbone, weights=None)
    kept = Config(
        model=replace(config.model, backbone=backbone),
        input=config.input,
        inference=config.inference,
        tracking=config.tracking,
    )
    return {
        "format": FORMAT,
        "config": json.dumps(config_to_dict(kept)),
        "classes": json.dumps(config.model.classes),
    }


class _LastStage(nn.Module):
    """The model as a function of tensors: all outputs of the last stage, for all queries."""

    def __init__(self, model: QueryInst) -> None:
        super().__init__()
        for name, module in list(model.named_modules()):
            if isinstance(module, RoIExtractor):
                model.set_submodule(name, _OnnxRoIExtractor(module))
        self.model = model
        self.output_names = ["class_logits", "boxes", "mask_logits", "queries"]
        if model.has_track_head:
            self.output_names.append("embeddings")

    def forward(self, images: Tensor, image_sizes: Tensor) -> tuple[Tensor, ...]:
        output = self.model(images, image_sizes)
        last = output.stages[-1]
        batch, count = last.boxes.shape[:2]
        everything = [torch.arange(count)] * batch
        masks = self.model.mask_logits(-1, output, everything)
        outputs = [last.class_logits, last.boxes, masks.unflatten(0, (batch, count)), last.queries]
        embeddings = self.model.track_embeddings(output, everything)
        if embeddings is not None:
            outputs.append(embeddings.unflatten(0, (batch, count)))
        return tuple(outputs)


class _OnnxRoIExtractor(RoIExtractor):
    """Pools as the module that it replaces, by operators that ONNX has.

    Each level pools the boxes that read it and writes them to their rows, so that all later
    shapes are static; and no box is pooled from more than one level.
    """

    def __init__(self, extractor: RoIExtractor) -> None:
        super().__init__(extractor.roi_size, extractor.sampling_ratio, extractor.finest_stride)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        rois = to_rois(boxes)
        levels = assign_levels(rois[:, 1:], len(features))
        pooled = rois.new_zeros(len(rois), features[0].shape[1], self.roi_size, self.roi_size)
        for level, feature in enumerate(features):
            rows = torch.nonzero(levels == level).squeeze(1)
            pooled = pooled.index_put((rows,), self.pool(feature, rois[rows], level))
        return pooled
