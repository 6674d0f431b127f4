"""Exported models at work: frames in, detections out, by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.checkpoints.weights import config_from_metadata
from queryinst_vis.config import Config, apply_overrides, differences
from queryinst_vis.data.transforms import padded_size, to_network_input
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import check_inference
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


class OnnxDetector:
    """What ``Detector`` does, by an exported model.

    Args:
        path: a file that ``export_onnx`` wrote.
        overrides: dotlist changes of the inference, tracking and input keys; what the graph
            computes is fixed.
        device: ``"auto"`` takes the GPU where onnxruntime-gpu finds one; ``"cpu"``, with as many
            threads as PyTorch has; ``"cuda"``.

    Attributes:
        config: of the model, with the overrides.
        class_names: names of the labels.
        has_track_head: whether it gives embeddings of a track head.
        height, width: of the network input, in pixels.
        batch: frames of one run.

    Raises:
        InputError: no such file, a broken one, one of another project, an override of the graph
            or one that can find nothing, a device that onnxruntime does not have, or it is not
            installed.
    """

    def __init__(
        self, path: str | Path, overrides: list[str] | None = None, device: str = "auto"
    ) -> None:
        require_packages("onnxruntime")
        self._path = Path(path)
        self._session = _open(self._path, _choose_providers(str(device)))
        saved = _read_config(self._session, self._path)
        self.config = apply_overrides(saved, overrides or [])
        check_inference(self.config)
        for key in differences(saved, self.config):
            if key.startswith(FIXED):
                raise InputError(f"override of {key}: fixed by the ONNX file {path}")
        self.class_names = list(self.config.model.classes)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.has_track_head = "embeddings" in self._outputs
        self.batch, _, self.height, self.width = self._session.get_inputs()[0].shape

    def detect_frames(
        self,
        frames: list[np.ndarray],
        embedding: Embedding | None = "track_head",
    ) -> list[Detections]:
        """As ``FrameDetector`` says.

        Raises:
            InputError: also a frame whose network input is larger than the model's.
        """
        found = []
        for start in range(0, len(frames), self.batch):
            found += self._detect(frames[start : start + self.batch], embedding)
        return found

    def _detect(self, frames: list[np.ndarray], embedding: Embedding | None) -> list[Detections]:
        backbone, size = self.config.model.backbone, self.config.input
        images, image_sizes = to_network_input(
            frames, size.test_short, size.test_long, backbone.mean, backbone.std
        )
        self._check_fits(frames, image_sizes)
        outputs = self._run(images, image_sizes)
        return [
            self._read(
                {name: values[index] for name, values in outputs.items()},
                image_sizes[index],
                frame.shape[:2],
                embedding,
            )
            for index, frame in enumerate(frames)
        ]

    def _check_fits(self, frames: list[np.ndarray], image_sizes: list[tuple[int, int]]) -> None:
        for frame, (height, width) in zip(frames, image_sizes, strict=True):
            if height > self.height or width > self.width:
                needed = padded_size([(height, width)])
                raise InputError(
                    f"a frame of {frame.shape[1]}x{frame.shape[0]} pixels becomes a network input "
                    f"of {width}x{height}, but {self._path} was exported for {self.width}x"
                    f"{self.height}: export for this size with '{EXPORT.format(*needed[::-1])}', "
                    "or lower input.test_long and input.test_short"
                )

    def _run(self, images: Tensor, image_sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The outputs by name, for a whole batch; images that are missing in it are blank."""
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

    def _read(
        self,
        outputs: dict[str, Tensor],
        image_size: tuple[int, int],
        original_size: tuple[int, int],
        embedding: Embedding | None,
    ) -> Detections:
        """One image's outputs, all queries, to its detections, as ``postprocess.detect`` does."""
        inference = self.config.inference
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
    """The parts of onnxruntime that may run a graph, the preferred one first."""
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
    options.log_severity_level = 3  # errors; warnings would speak of the graph's inner names
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
