"""The content of exported files: detector and embedding as a graph of static size, and a config.

The metadata is ``{"format": "queryinst_vis/ENGINE/1", "config": JSON, "classes": JSON}``; the
config holds the keys needed for inference, the classes are the names of the labels.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor, assign_levels, to_rois

INPUTS = ("images", "image_sizes")
DIVISOR = 32  # the coarsest map of the backbone has this stride


class LastStage(nn.Module):
    """The model as a function of tensors: all outputs of the last stage, for all queries.

    Inputs, float32: ``images`` ``(B, 3, H, W)``, normalised and padded at the right and bottom, and
    ``image_sizes`` ``(B, 2)``, the height and width of each image without padding. Outputs of the
    last stage, float32, for N queries and K classes:

    * ``class_logits`` ``(B, N, K)``;
    * ``boxes`` ``(B, N, 4)``, xyxy in input pixels;
    * ``mask_logits`` ``(B, N, K, 28, 28)``, within the boxes;
    * ``queries`` ``(B, N, C)``, for ``tracking.rule=query``;
    * ``embeddings`` ``(B, N, D)`` of the track head, if the model has one.

    Args:
        model: on the CPU; modified in place.

    Attributes:
        output_names: names of the outputs.
    """

    def __init__(self, model: QueryInst) -> None:
        super().__init__()
        for name, module in list(model.named_modules()):
            if isinstance(module, RoIExtractor):
                model.set_submodule(name, _ExportableRoIExtractor(module))
        self.model = model
        self.output_names = ["class_logits", "boxes", "mask_logits", "queries"]
        if model.has_track_head:
            self.output_names.append("embeddings")

    def forward(self, images: Tensor, image_sizes: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of ``output_names``."""
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


class _ExportableRoIExtractor(RoIExtractor):
    """Replaces ``RoIExtractor`` by operators that inference engines support.

    The boxes of each level are pooled from that level only and scattered to their rows, so the
    output shape is static.
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


def example_inputs(height: int, width: int, batch: int) -> tuple[Tensor, Tensor]:
    """Blank ``images`` and ``image_sizes`` for tracing the graph.

    Raises:
        InputError: ``batch`` below 1, or a side that is not a multiple of 32.
    """
    if batch < 1:
        raise InputError(f"batch must be 1 or more, got {batch}")
    near = [max(-(-side // DIVISOR), 1) * DIVISOR for side in (width, height)]
    if near != [width, height]:
        raise InputError(
            f"size {width}x{height}: both sides of the network input must be multiples of "
            f"{DIVISOR}; {near[0]}x{near[1]} has room for such frames"
        )
    sizes = torch.tensor([[height, width]], dtype=torch.float32).repeat(batch, 1)
    return torch.zeros(batch, 3, height, width), sizes


def describe(config: Config, file_format: str) -> dict[str, str]:
    """The metadata of an exported file, without data sets, training settings or local paths.

    Args:
        config: config of the model.
        file_format: e.g. ``queryinst_vis/onnx/1``.
    """
    backbone = replace(config.model.backbone, weights=None)
    kept = Config(
        model=replace(config.model, backbone=backbone),
        input=config.input,
        inference=config.inference,
        tracking=config.tracking,
    )
    return {
        "format": file_format,
        "config": json.dumps(config_to_dict(kept)),
        "classes": json.dumps(config.model.classes),
    }


def require_packages(engine: str, *names: str) -> None:
    """Check that optional packages are installed.

    Args:
        engine: ``ONNX`` or ``OpenVINO``; in lower case, the name of the extra that installs them.
        names: the packages.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{engine} needs the packages {', '.join(missing)}: "
            f"pip install 'queryinst-vis[{engine.lower()}]'"
        )


@contextmanager
def quiet(logger_name: str | None = None) -> Iterator[None]:
    """Silence the warnings of a library's logger, or of the root logger."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
