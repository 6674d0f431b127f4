"""From frames to detections."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from queryinst_vis.config import Config
from queryinst_vis.data.transforms import to_network_input
from queryinst_vis.errors import InputError
from queryinst_vis.inference.prepare import inference_dtype
from queryinst_vis.models.postprocess import detect
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.suppression import OVERLAPS
from queryinst_vis.structures import Detections, Embedding


class FrameDetector(Protocol):
    """Anything that finds instances in frames: ``Detector``, ``OnnxDetector``.

    Attributes:
        config: its ``input``, ``inference`` and ``tracking`` keys hold from the next frame on.
        has_track_head: whether it can give embeddings of a track head.
    """

    config: Config
    has_track_head: bool

    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = "track_head"
    ) -> list[Detections]:
        """Detect and segment the instances of each frame by itself.

        Args:
            frames: ``(H, W, 3)`` uint8 RGB each, any number of them.
            embedding: what describes an instance to the tracker; None, or a track head that the
                model does not have: nothing.

        Returns:
            Detections in pixels of the frames, on the CPU.

        Raises:
            InputError: a frame of another shape or type.
        """


def check_inference(config: Config) -> None:
    """Raise an InputError for inference settings that can find nothing, or fail."""
    inference = config.inference
    for key, value in (
        ("input.test_short", config.input.test_short),
        ("input.test_long", config.input.test_long),
        ("inference.max_per_image", inference.max_per_image),
    ):
        if value < 1:
            raise InputError(f"{key}: must be at least 1, is {value}")
    for key, value in (
        ("inference.score_threshold", inference.score_threshold),
        ("inference.mask_threshold", inference.mask_threshold),
        ("inference.nms_threshold", inference.nms_threshold),
    ):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{key}: must be from 0 to 1, is {value}")
    if inference.nms_overlap not in OVERLAPS:
        raise InputError(
            f"inference.nms_overlap '{inference.nms_overlap}': choose one of {', '.join(OVERLAPS)}"
        )


class Detector:
    """A model that finds instances in frames, by PyTorch.

    Args:
        model: on any device; set to eval mode.
        config: of the model; its ``input``, ``inference`` and ``model.backbone`` keys are used.

    Raises:
        InputError: settings that can find nothing.
    """

    def __init__(self, model: QueryInst, config: Config) -> None:
        check_inference(config)
        self.config = config
        self.has_track_head = model.track_head is not None
        self._model = model.eval()

    @torch.inference_mode()
    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = "track_head"
    ) -> list[Detections]:
        """As ``FrameDetector`` says; all frames are one batch."""
        if not frames:
            return []
        backbone, size = self.config.model.backbone, self.config.input
        inference, dtype = self.config.inference, inference_dtype(self.config)
        device = self._model.queries.device
        images, image_sizes = to_network_input(
            frames, size.test_short, size.test_long, backbone.mean, backbone.std
        )
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            found = detect(
                self._model,
                images.to(device),
                image_sizes,
                [frame.shape[:2] for frame in frames],
                score_threshold=inference.score_threshold,
                max_per_image=inference.max_per_image,
                one_label_per_query=inference.one_label_per_query,
                mask_threshold=inference.mask_threshold,
                nms_threshold=inference.nms_threshold,
                nms_overlap=inference.nms_overlap,
                embedding=embedding,
            )
        return [detections.to("cpu") for detections in found]
