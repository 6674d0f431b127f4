"""Exported models at work: what an ONNX file computes, by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.checkpoints.weights import config_from_metadata
from queryinst_vis.config import Config, InferenceConfig, apply_overrides, differences
from queryinst_vis.data.transforms import padded_size
from queryinst_vis.errors import InputError
from queryinst_vis.inference.onnx_export import FORMAT, INPUTS, require_packages
from queryinst_vis.models.postprocess import rescale_boxes, select_queries, suppress_picks
from queryinst_vis.models.suppression import suppress_masks
from queryinst_vis.structures import Detections, Embedding

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
EMBEDDINGS = {"track_head": "embeddings", "query": "queries"}  # names of outputs
FIXED = ("model.", "inference.precision", "inference.compile")
EXPORT = "queryinst-vis export-onnx WEIGHTS --size {}x{} --output FILE"

Size = tuple[int, int]


def load_onnx_model(
    path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[OnnxModel, Config]:
    """Open an exported model, and read its config.

    Args:
        path: a file that ``export_onnx`` wrote.
        device: ``"auto"`` takes the GPU where onnxruntime-gpu finds one; ``"cpu"``, with as many
            threads as PyTorch has; ``"cuda"``.
        overrides: dotlist changes of the inference, tracking and input keys; what the graph
            computes is fixed.

    Raises:
        InputError: the file is missing, broken or of another project; an override of the graph;
            a device that onnxruntime does not have; or onnxruntime is not installed.
    """
    require_packages("onnxruntime")
    path = Path(path)
    session = _open(path, _choose_providers(str(device)))
    saved = _read_config(session, path)
    config = apply_overrides(saved, overrides or [])
    for key in differences(saved, config):
        if key.startswith(FIXED):
            raise InputError(f"override of {key}: fixed by the ONNX file {path}")
    return OnnxModel(session, path), config


class OnnxModel:
    """An exported model as the network of a ``Detector``.

    Args:
        session: of the file.
        path: of the file, for messages.

    Attributes:
        has_track_head: whether it gives embeddings of a track head.
        height, width: of the network input, in pixels.
        batch: images of one run.
    """

    def __init__(self, session: InferenceSession, path: Path) -> None:
        self._session, self._path = session, path
        self._outputs = [output.name for output in session.get_outputs()]
        self.has_track_head = "embeddings" in self._outputs
        self.batch, _, self.height, self.width = session.get_inputs()[0].shape

    def detect(
        self,
        images: Tensor,
        image_sizes: list[Size],
        original_sizes: list[Size],
        config: Config,
        embedding: Embedding | None,
    ) -> list[Detections]:
        """As ``Network`` says.

        Raises:
            InputError: a network input is larger than the model's.
        """
        self._check_fits(image_sizes, original_sizes)
        found = []
        for start in range(0, len(images), self.batch):
            part = slice(start, start + self.batch)
            outputs = self._run(images[part], image_sizes[part])
            for index, sizes in enumerate(
                zip(image_sizes[part], original_sizes[part], strict=True)
            ):
                of_image = {name: values[index] for name, values in outputs.items()}
                found.append(_postprocess(of_image, *sizes, config.inference, embedding))
        return found

    def _check_fits(self, image_sizes: list[Size], original_sizes: list[Size]) -> None:
        for (height, width), original in zip(image_sizes, original_sizes, strict=True):
            if height > self.height or width > self.width:
                needed = padded_size([(height, width)])
                raise InputError(
                    f"a frame of {original[1]}x{original[0]} pixels becomes a network input "
                    f"of {width}x{height}, but {self._path} was exported for {self.width}x"
                    f"{self.height}: export for this size with '{EXPORT.format(*needed[::-1])}', "
                    "or lower input.test_long and input.test_short"
                )

    def _run(self, images: Tensor, image_sizes: list[Size]) -> dict[str, Tensor]:
        """The outputs by name, for a whole batch; missing images are padded with blank ones."""
        count, _, height, width = images.shape
        missing = self.batch - count
        images = F.pad(images, (0, self.width - width, 0, self.height - height, 0, 0, 0, missing))
        sizes = [*image_sizes, *[(self.height, self.width)] * missing]
        inputs = (images.contiguous().numpy(), np.array(sizes, dtype=np.float32))
        outputs = self._session.run(self._outputs, dict(zip(INPUTS, inputs, strict=True)))
        return {
            name: torch.from_numpy(values)
            for name, values in zip(self._outputs, outputs, strict=True)
        }


def _postprocess(
    outputs: dict[str, Tensor],
    image_size: Size,
    original_size: Size,
    inference: InferenceConfig,
    embedding: Embedding | None,
) -> Detections:
    """Detections of one image from the outputs for all queries, as ``postprocess.detect``."""
    picks = select_queries(
        outputs["class_logits"].sigmoid(),
        inference.score_threshold,
        inference.max_per_image,
        inference.one_label_per_query,
    )
    threshold, overlap = inference.nms_threshold, inference.nms_overlap
    if threshold is not None and overlap == "boxes":
        picks = suppress_picks(picks, outputs["boxes"], threshold)
    query, labels, scores = picks
    embeddings = outputs.get(EMBEDDINGS[embedding]) if embedding is not None else None
    found = Detections(
        boxes=rescale_boxes(outputs["boxes"][query], image_size, original_size),
        scores=scores,
        labels=labels,
        image_size=original_size,
        mask_logits=outputs["mask_logits"][query, labels],
        embeddings=None if embeddings is None else embeddings[query],
        mask_threshold=inference.mask_threshold,
    )
    if threshold is not None and overlap == "masks":
        found = suppress_masks(found, threshold, inference.one_label_per_query)
    return found


def _choose_providers(device: str) -> list[str]:
    """The execution providers that may run a graph, in order of preference."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    names = [name for name, provider in PROVIDERS.items() if provider in available]
    if device not in ("auto", *names):
        raise InputError(
            f"device '{device}': this onnxruntime has {', '.join(names)}; CUDA takes the package "
            "onnxruntime-gpu in the place of onnxruntime"
        )
    # a GPU leaves single operators to the CPU
    return [PROVIDERS[name] for name in names if device != "cpu" or name == "cpu"]


def _open(path: Path, providers: list[str]) -> InferenceSession:
    import onnxruntime

    if not path.is_file():
        raise InputError(f"ONNX file {path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # threads that spin while they wait take cores from decoding, tracking and PyTorch
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; warnings are about nodes of the graph
    try:
        return onnxruntime.InferenceSession(path, options, providers)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise InputError(
            f"ONNX file {path}: broken, or not for onnxruntime {onnxruntime.__version__} ({error})"
        ) from error


def _read_config(session: InferenceSession, path: Path) -> Config:
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"ONNX file {path}: not written by queryinst_vis, export it with "
            "'queryinst-vis export-onnx'"
        )
    return config_from_metadata(metadata, f"ONNX file {path}")
