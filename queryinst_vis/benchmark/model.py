"""The model to benchmark, with one method per timed stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.data.transforms import network_input
from queryinst_vis.inference.detector import Detector, detect_inputs
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OutputPlan
from queryinst_vis.inference.outputs.writing import TrackSummary
from queryinst_vis.inference.precision import inference_dtype
from queryinst_vis.inference.track import DEFAULT_MAX_TRACKS, run_tracker
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.masks import RLE
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.rules import choose_rule
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.video.source import Source


class BenchmarkModel:
    """A model as used by ``track``, but with a score threshold of 0, so that all queries are kept.

    Otherwise, masks and embeddings would not be timed on a clip without objects of the model's
    classes. Override ``inference.score_threshold=0.3`` for the behaviour of ``track``.

    Args:
        weights: a name or a file, as for ``load_model``.
        device: device of the network.
        overrides: dotlist overrides of the config in the weights.

    Attributes:
        config: the effective config.
        device: device of the network.
        dtype: of convolutions and matrix products.

    Raises:
        InputError: weights, device or overrides cannot be used, or the tracking rule needs a
            track head that the model does not have.
    """

    def __init__(self, weights: Path, device: str, overrides: list[str]) -> None:
        defaults = ["inference.score_threshold=0", f"tracking.max_tracks={DEFAULT_MAX_TRACKS}"]
        model, config = load_model(weights, device, [*defaults, *overrides])
        self._model, config = optimize_for_inference(model, config)
        self.device, self.dtype = model.device, inference_dtype(config)
        config = choose_rule(config, model.track_head is not None)
        self._embedding = Tracker(config.tracking).embedding
        inference = replace(config.inference, one_label_per_query=True)
        self.config = replace(config, inference=inference)
        self._detector = Detector(self._model, self.config)
        self._tracker = VideoTracker(self._detector)

    def prepare(self, frames: list[np.ndarray]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Network input for ``(H, W, 3)`` uint8 RGB frames, and its sizes without padding."""
        images, image_sizes = network_input(frames, self.config)
        return images.to(self.device), image_sizes

    @torch.inference_mode()
    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Backbone and FPN."""
        with self._autocast():
            return list(self._model.extract_features(images))

    @torch.inference_mode()
    def detect(self, images: Tensor, image_sizes: list[tuple[int, int]]) -> list[Detections]:
        """The model only: class logits, boxes, masks and embeddings of the selected queries."""
        with self._autocast():
            return detect_inputs(
                self._model,
                images,
                image_sizes,
                image_sizes,
                self.config.inference,
                self._embedding,
            )

    def segment(self, frames: list[np.ndarray]) -> list[list[RLE]]:
        """RLE masks at frame resolution: preprocessing, model and mask pasting."""
        results = self._detector.detect_frames(frames, self._embedding)
        return [detections.rles() for detections in results]

    def track(self, source: Source, folder: Path, batch: int) -> TrackSummary:
        """End to end, from a video to the output files, as ``queryinst-vis track``."""
        plan = OutputPlan(folder, source, TrackOptions(self._detector))
        return run_tracker(self._tracker, source, plan, batch)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
