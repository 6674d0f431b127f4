"""Running a model over a data set: result files and metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch.distributed as dist
from lightning.fabric import Fabric

from queryinst_vis.checkpoints.load import check_same_model, load_for_config
from queryinst_vis.config import Config
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import open_dataset
from queryinst_vis.data.records import ImageRecord
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_coco, evaluate_youtube_vis
from queryinst_vis.formats.results import (
    coco_entries,
    write_results,
    write_zip,
    youtube_vis_entries,
)
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.any_detector import AnyDetector, is_weights, load_detector
from queryinst_vis.inference.detector import Detector, FrameDetector, is_exported
from queryinst_vis.inference.optimize import optimize_for_inference, settle_precision
from queryinst_vis.inference.result import store
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.rules import choose_rule
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.training.launch import gather, launch
from queryinst_vis.utils.files import atomic_path, check_not_read, files_together
from queryinst_vis.utils.prefetch import prefetch
from queryinst_vis.utils.progress import ProgressBar

READ_AHEAD = 4  # images decoded in advance while the network runs
HEADLINES = ("AP", "AP50", "AP75")
Entries = list[dict[str, Any]]
AnySet = CocoDataset | YouTubeVisDataset
SetType = TypeVar("SetType", CocoDataset, YouTubeVisDataset)


class Evaluation(NamedTuple):
    """Validation result of a model in training.

    Attributes:
        score: selects the best weights: track AP, mask AP, or box AP if the set has no masks;
            0..1.
        metrics: main metrics by name.
        entries: entries of the result file.
    """

    score: float
    metrics: dict[str, float]
    entries: Entries


def test_video(
    config: Config,
    weights: AnyDetector,
    out: str | Path,
    zip_path: str | Path | None = None,
    devices: str | int = "auto",
    nodes: int = 1,
    batch: int = 1,
) -> dict[str, Any] | None:
    """Track the videos of ``data.test`` (otherwise ``data.val``) and write the results.

    Args:
        config: data, input, inference and tracking settings; its model must be that of the
            weights. Classes are matched by name with those of the annotation file.
        weights: as for ``load_detector``: a name, a file, or any detector with class names, for
            which ``config.model`` and ``config.input`` are ignored.
        out: YouTube-VIS result JSON.
        zip_path: also write a zip for evaluation servers; None: no zip.
        devices: processes per node, or ``"auto"``; videos are distributed over the processes.
        nodes: number of nodes.
        batch: batch size in frames; does not change the results.

    Returns:
        The metrics of ``evaluate_youtube_vis``, or None if the set has no annotations.

    Raises:
        InputError: the config, the weights, the set, an image or ``batch`` cannot be used.
    """
    return _test(
        (YouTubeVisDataset, predict_videos, evaluate_youtube_vis),
        *(config, weights, out, zip_path, devices, nodes, batch),
    )


def test_image(
    config: Config,
    weights: AnyDetector,
    out: str | Path,
    devices: str | int = "auto",
    nodes: int = 1,
    batch: int = 1,
) -> dict[str, dict[str, Any]] | None:
    """Run detection on the images of ``data.test`` (otherwise ``data.val``), write the results.

    Args:
        config, weights: as for ``test_video``.
        out: COCO result JSON, with boxes and masks.
        devices: processes per node, or ``"auto"``.
        nodes: number of nodes.
        batch: batch size; images of different sizes are padded to a common size, which changes the
            results slightly.

    Returns:
        The metrics of ``evaluate_coco``, or None if the set has no annotations.

    Raises:
        InputError: the config, the weights, the set, an image or ``batch`` cannot be used.
    """
    return _test(
        (CocoDataset, predict_images, evaluate_coco),
        *(config, weights, out, None, devices, nodes, batch),
    )


def _test(
    kind: tuple[
        type[SetType],
        Callable[[Fabric, FrameDetector, SetType, int], Entries],
        Callable[..., dict[str, Any]],
    ],
    config: Config,
    weights: AnyDetector,
    out: str | Path,
    zip_path: str | Path | None,
    devices: str | int,
    nodes: int,
    batch: int,
) -> dict[str, Any] | None:
    """Check the inputs, predict, write the results, and evaluate if there are annotations."""
    if batch < 1:
        raise InputError(f"batch must be 1 or more, got {batch}")
    set_type, predict, metric = kind
    fabric = launch(devices, nodes)
    detector = _load_for_test(fabric, config, weights)
    dataset, annotations = _open_test_set(detector.config, set_type)
    evaluate_set = partial(metric, annotations, classes=detector.config.model.classes)
    sources = [annotations, *([weights] if isinstance(weights, str | Path) else [])]
    _check_output(out, *sources)
    if zip_path is not None:
        _check_output(zip_path, *sources, out)
    if dataset.has_annotations:
        evaluate_set([])  # fail early if the set cannot be evaluated
    entries = predict(fabric, detector, dataset, batch)
    metrics = None
    if fabric.is_global_zero:
        with files_together(), atomic_path(out) as results:
            write_results(results, entries)
            if zip_path is not None:
                write_zip(results, zip_path)
        if dataset.has_annotations:
            metrics = evaluate_set(entries)
    return fabric.broadcast(metrics)


def _load_for_test(fabric: Fabric, config: Config, weights: AnyDetector) -> FrameDetector:
    """Load the detector, with the settings of the config."""
    if isinstance(weights, str | Path) and is_exported(weights):
        return _load_exported(config, weights)
    if is_weights(weights):
        assert isinstance(weights, str | Path)
        model, config = load_for_config(config, weights)
        model.to(fabric.device)
        config = fabric.broadcast(settle_precision(model, config))  # the same in all processes
        return Detector(*optimize_for_inference(model, config))
    device = str(fabric.device) if isinstance(weights, str | Path) else "auto"
    detector = load_detector(weights, device)
    if not detector.config.model.classes:
        raise InputError(
            "detector: has no class names to match with those of the set; pass them, as in "
            "FunctionDetector(find, class_names=[...])"
        )
    tracking = config.tracking
    if tracking.rule is None:
        tracking = replace(tracking, rule=detector.config.tracking.rule)
    detector.config = replace(config, model=detector.config.model, tracking=tracking)
    return detector


def _load_exported(config: Config, path: str | Path) -> Detector:
    """Load an exported model, with the settings of the config, on the device that it runs on."""
    overrides = [f"inference.precision={config.inference.precision}"]
    detector = Detector.from_pretrained(path, "auto", overrides)
    saved = detector.config
    check_same_model(config, saved, f"weights {path}")
    inference = replace(config.inference, precision=saved.inference.precision)
    detector.config = replace(config, model=saved.model, inference=inference)
    return detector


def open_validation_set(config: Config) -> AnySet | None:
    """``data.val``, checked to be usable for evaluation; None if it is not set.

    Raises:
        InputError: the set is unreadable or has no annotations, masks or objects of the model's
            classes to evaluate with, or the ``tracking`` settings do not suit the model.
    """
    annotations = config.data.val.annotations
    if annotations is None:
        return None
    dataset = open_dataset(config.data.val, config.model.classes)
    if not dataset.has_annotations:
        raise InputError(f"data.val.annotations {annotations}: has no annotations to evaluate with")
    if not _has_objects(dataset):
        raise InputError(
            f"data.val.annotations {annotations}: has no object of the model's classes to evaluate "
            "with (apart from crowds)"
        )
    # fail before training if the set cannot be evaluated or tracked
    if isinstance(dataset, YouTubeVisDataset):
        evaluate_youtube_vis(annotations, [])
        Tracker(choose_rule(config, config.model.track.enabled).tracking)
    else:
        evaluate_coco(annotations, [])
    return dataset


def _has_objects(dataset: AnySet) -> bool:
    if isinstance(dataset, YouTubeVisDataset):
        return any(video.tracks for video in dataset.videos)
    return any(image.instances for image in dataset.images)


def evaluate(fabric: Fabric, model: QueryInst, config: Config, dataset: AnySet) -> Evaluation:
    """Evaluate a model in training on ``data.val``; leaves it in eval mode.

    Only rank 0 returns the result; the others return a score of 0 and no metrics.
    """
    model.eval()
    _share_statistics(fabric, model)
    annotations = str(config.data.val.annotations)
    detector = Detector(model, config)
    if isinstance(dataset, YouTubeVisDataset):
        entries = predict_videos(fabric, detector, dataset)
    else:
        entries = predict_images(fabric, detector, dataset)
    if not fabric.is_global_zero:
        return Evaluation(0.0, {}, [])
    if isinstance(dataset, YouTubeVisDataset):
        found = evaluate_youtube_vis(annotations, entries, classes=config.model.classes)
        return Evaluation(found["AP"], {name: found[name] for name in HEADLINES}, entries)
    found = evaluate_coco(annotations, entries, classes=config.model.classes)
    headlines = {
        f"{kind}_{name}": metrics[name] for kind, metrics in found.items() for name in HEADLINES
    }
    return Evaluation(found.get("segm", found["bbox"])["AP"], headlines, entries)


def _share_statistics(fabric: Fabric, model: QueryInst) -> None:
    """Give all processes the batch norm statistics of rank 0, whose weights are saved."""
    if fabric.world_size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def predict_videos(
    fabric: Fabric, detector: FrameDetector, dataset: YouTubeVisDataset, batch: int = 1
) -> Entries:
    """YouTube-VIS result entries of all videos, in order, in every process."""
    tracker = VideoTracker(detector)
    mine = _share(fabric, dataset.videos)
    frames = sum(len(video) for _, video in mine)
    with ProgressBar("tracking frames", frames, visible=fabric.is_global_zero) as progress:
        found = []
        for index, video in mine:
            with TrackStore() as tracks:
                tracker.reset()
                images = (video.frame(index) for index in range(len(video)))
                for _, detections in tracker.follow(_load_ahead(images, batch), batch):
                    store(tracks, detections)
                    progress.advance()
                entries = youtube_vis_entries(tracks, video.id, dataset.category_ids)
            found.append((index, entries))
    return _merge(fabric, found)


def predict_images(
    fabric: Fabric, detector: FrameDetector, dataset: CocoDataset, batch: int = 1
) -> Entries:
    """COCO result entries of all images, in order, in every process."""
    mine = _share(fabric, dataset.images)
    found = []
    with ProgressBar("detecting in images", len(mine), visible=fabric.is_global_zero) as progress:
        frames = _load_ahead((image for _, image in mine), batch)
        images = iter(mine)
        while group := list(islice(frames, batch)):
            for detections in detector.detect_frames(group, embedding=None):
                index, image = next(images)
                found.append((index, _image_entries(detections, image.id, dataset.category_ids)))
                progress.advance()
    return _merge(fabric, found)


def _image_entries(
    detections: Detections, image_id: int, category_ids: list[int | None]
) -> Entries:
    return coco_entries(
        image_id,
        category_ids,
        detections.labels.tolist(),
        detections.scores.tolist(),
        detections.boxes.tolist(),
        detections.rles() if detections.has_masks else None,
    )


def _share(fabric: Fabric, items: list[Any]) -> list[tuple[int, Any]]:
    """The items of this process, each with its index in the whole list."""
    return list(enumerate(items))[fabric.global_rank :: fabric.world_size]


def _merge(fabric: Fabric, found: list[tuple[int, Entries]]) -> Entries:
    shares = sorted(gather(fabric, found), key=lambda share: share[0])
    return [entry for _, entries in shares for entry in entries]


def _load_ahead(records: Iterable[ImageRecord], batch: int) -> Iterator[np.ndarray]:
    """Decode images in a thread while the network processes earlier ones."""
    return prefetch(map(load_pixels, records), max(READ_AHEAD, batch))


def _open_test_set(config: Config, kind: type[SetType]) -> tuple[SetType, str]:
    """``data.test``, otherwise ``data.val``, as a set of this kind, and its annotation file."""
    data = config.data.test if config.data.test.annotations else config.data.val
    if data.annotations is None:
        raise InputError("data.test.annotations: not set (nor data.val's); set the test data")
    dataset = open_dataset(data, config.model.classes)
    if not isinstance(dataset, kind):
        other = "test-image" if isinstance(dataset, CocoDataset) else "test-video"
        contents = "images" if isinstance(dataset, CocoDataset) else "videos"
        raise InputError(f"{data.annotations}: is a set of {contents}; use {other}")
    return dataset, data.annotations


def _check_output(path: str | Path, *sources: str | Path) -> None:
    """Fail early if the result cannot be written."""
    path = Path(path)
    check_not_read(path, *sources)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}: choose a file in a folder that can be written")
