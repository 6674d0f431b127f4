"""Inputs of ``association.py``: sets of videos, and detections cached on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import Config, DatasetConfig, InferenceConfig
from queryinst_vis.data.convert import convert_mots
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import open_dataset
from queryinst_vis.data.synthetic import PRESETS, generate
from queryinst_vis.data.youtube_vis import VideoRecord, YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector, Embedding
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.masks import InstanceMask
from queryinst_vis.models.postprocess import select_queries
from queryinst_vis.models.queryinst import QueryInst, gather_rows
from queryinst_vis.models.suppression import suppress_boxes, suppress_masks
from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.prefetch import prefetch
from queryinst_vis.utils.progress import ProgressBar

LOWEST_SCORE = 0.05
"""Minimum score of cached detections."""

CACHED = (
    "boxes",
    "scores",
    "labels",
    "image_size",
    "mask_logits",
    "embeddings",
    "track_ids",
    "mask_threshold",
)
"""The cached fields of ``Detections``."""

MOTS_SETS: dict[str, tuple[str, dict[str, Any]]] = {
    # to choose settings on, since the weights `people` were trained on these frames
    "mots_train": ("mots", {"end": 0.75}),
    "mots_clips": ("mots", {"start": 0.75, "clip_length": 36}),
    "mots_0005": ("mots", {"start": 0.75, "sequences": ["0005"]}),
    "sbi": ("sbi_people", {"sequences": ["CAVIAR1", "HallAndMonitor", "IBMtest2"]}),
    "davis": ("davis_people", {}),
}
"""Sets of real videos: folder in ``QUERYINST_VIS_DATA/data``, and options of ``convert_mots``."""

SHAPES = "shapes_bench"
SETS = (*MOTS_SETS, SHAPES)
HELD_OUT = tuple(name for name in MOTS_SETS if name != "mots_train")


@dataclass(frozen=True)
class TestSet:
    """Annotated videos."""

    name: str
    annotations: Path
    images: Path

    def open(self, config: Config) -> YouTubeVisDataset:
        """The videos, with the classes of a model."""
        paths = DatasetConfig(annotations=str(self.annotations), images=str(self.images))
        return open_dataset(paths, config.model.classes)


def make_set(name: str, folder: Path) -> TestSet:
    """Convert or render a set by name, unless it exists in ``folder``.

    Raises:
        InputError: unknown name; ``QUERYINST_VIS_DATA`` is not set, or lacks the videos.
    """
    if name == SHAPES:
        target = folder / name
        if not target.exists():
            generate(target, PRESETS["bench"], seed=2026)
        return TestSet(name, target / "youtube_vis.json", target / "frames")
    if name not in MOTS_SETS:
        raise InputError(f"--sets: unknown set '{name}'; choose from: {', '.join(SETS)}")
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError(f"set {name}: QUERYINST_VIS_DATA must be the folder that contains data/")
    source, options = MOTS_SETS[name]
    videos = Path(os.environ["QUERYINST_VIS_DATA"]) / "data" / source
    annotations = folder / f"{name}.json"
    if not annotations.exists():
        convert_mots(videos, annotations, **options)
    return TestSet(name, annotations, videos / "images")


Videos = dict[int, list[Detections]]
"""The detections of each frame, by descending score, by video id."""


def detect_once(weights: str, config: Config, test_set: TestSet, cache: Path) -> Path:
    """The cache file of the detections in a set, computed if it is missing.

    Its name contains a hash of all inputs except the code: the weights, the videos, and the keys of
    ``input`` and ``inference`` that change detections. ``load_detections`` applies NMS.
    """
    inference = replace(
        config.inference,
        score_threshold=LOWEST_SCORE,
        one_label_per_query=True,
        nms_threshold=None,
    )
    config = replace(config, inference=inference)
    digest = hashlib.sha256(find_weights(weights).read_bytes())
    digest.update(test_set.annotations.read_bytes())
    keys = (config.input.test_short, config.input.test_long, inference.max_per_image)
    digest.update(f"{keys} {inference.mask_threshold} {inference.precision}".encode())
    path = cache / f"{test_set.name}-{Path(weights).stem}-{digest.hexdigest()[:12]}.pt"
    if not path.exists():
        model, _ = load_model(weights)
        frames = _detect_in_set(*optimize_for_inference(model, config), test_set)
        with atomic_path(path) as temporary:
            torch.save(frames, temporary)
    return path


def _detect_in_set(
    model: QueryInst, config: Config, test_set: TestSet
) -> dict[int, list[dict[str, Any]]]:
    """The fields of each frame's detections, and their ``queries``, by video id."""
    detector, outputs = Detector(model, config), []
    model.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    videos = test_set.open(config).videos
    total = sum(len(video) for video in videos)
    with ProgressBar(f"detecting in {test_set.name}", total) as progress:
        by_video = {}
        for video in videos:
            by_video[video.id] = []
            for pixels in prefetch(_frames(video)):
                [detections] = detector.detect_frames([pixels])
                last = outputs.pop().stages[-1]
                selected, _, _ = select_queries(
                    last.class_logits[0].float().sigmoid(),
                    LOWEST_SCORE,
                    config.inference.max_per_image,
                    one_label_per_query=True,
                )
                [queries] = gather_rows(last.queries, [selected])
                content = {name: getattr(detections, name) for name in CACHED}
                by_video[video.id].append({**content, "queries": queries.float().cpu()})
                progress.advance()
    return by_video


def _frames(video: VideoRecord) -> Iterator[np.ndarray]:
    return (load_pixels(video.frame(index)) for index in range(len(video)))


def load_detections(path: Path, embedding: Embedding | None, inference: InferenceConfig) -> Videos:
    """Read the output of ``detect_once`` and apply NMS.

    Args:
        path: the file.
        embedding: the embedding of the rule; None: any.
        inference: its ``nms_threshold`` and ``nms_overlap`` are used.
    """
    return _load(path, embedding, inference.nms_threshold, inference.nms_overlap)


@lru_cache(maxsize=2)
def _load(path: Path, embedding: Embedding | None, threshold: float | None, overlap: str) -> Videos:
    return {
        video: [
            _apply_nms(_from_cache(embedding == "query", **fields), threshold, overlap)
            for fields in frames
        ]
        for video, frames in torch.load(path, weights_only=True).items()
    }


def _apply_nms(detections: Detections, threshold: float | None, overlap: str) -> Detections:
    if threshold is None:
        return detections
    if overlap == "masks":
        return suppress_masks(detections, threshold, class_agnostic=True)
    boxes, scores, labels = detections.boxes, detections.scores, detections.labels
    return detections[suppress_boxes(boxes, scores, labels, threshold)]


def _from_cache(use_queries: bool, queries: Tensor, **fields: Any) -> Detections:
    """Detections whose masks are pasted and encoded here, once for all runs."""
    detections = Detections(**fields)
    masks = [InstanceMask(detections.image_size, rle=rle) for rle in detections.rles()]
    embeddings = queries if use_queries else detections.embeddings
    return replace(detections, embeddings=embeddings, pixel_masks=masks)
