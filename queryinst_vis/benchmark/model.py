"""The model that is measured, with one method for each stage that is timed."""

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
    """A model as ``track`` runs it, except that every query is kept, whatever its score.

    Otherwise a clip that shows none of the model's classes would time no masks and embeddings.
    Override ``inference.score_threshold=0.3`` to measure what ``track`` does.

    Args:
        weights: a name or a file, as for ``load_model``.
        device: where the network runs.
        overrides: dotlist changes of the config inside the weights.

    Attributes:
        config: in use.
        device: where it runs.
        dtype: of its convolutions and matrix products.

    Raises:
        InputError: weights, device or overrides cannot be used, or the tracking rule needs a
            track head and there is none.
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
        """``(H, W, 3)`` uint8 RGB frames as network input, and its sizes without padding."""
        images, image_sizes = network_input(frames, self.config)
        return images.to(self.device), image_sizes

    @torch.inference_mode()
    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Backbone and whole FPN; ``detect`` may leave out the part of it that no box reads."""
        with self._autocast():
            return list(self._model.extract_features(images))

    @torch.inference_mode()
    def detect(self, images: Tensor, image_sizes: list[tuple[int, int]]) -> list[Detections]:
        """The model alone: class logits, boxes, and masks and embeddings of the kept queries."""
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
        """Frames to RLEs in pixels of the frames: preprocessing, model, pasting."""
        found = self._detector.detect_frames(frames, self._embedding)
        return [detections.rles() for detections in found]

    def track(self, source: Source, folder: Path, batch: int) -> TrackSummary:
        """End to end, as ``queryinst-vis track``: from a video to three files."""
        plan = OutputPlan(folder, source, TrackOptions(self._detector))
        return run_tracker(self._tracker, source, plan, batch)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
