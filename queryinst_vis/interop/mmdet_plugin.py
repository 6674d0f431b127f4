"""Detector and tracker as mmdetection 3 components: mmdet configs import this module by name.

Example of a model, trained and tested by mmdet::

    custom_imports = dict(imports=["queryinst_vis.interop.mmdet_plugin"])
    model = dict(type="QueryInstVisDetector", config="configs/coco/queryinst_r50_100q_1x.yaml")

For videos::

    model = dict(
        type="QueryInstVisModel",
        detector=dict(type="QueryInstVisDetector", weights="shapes"),
        tracker=dict(type="QueryInstVisTracker", rule="masktrack", expire_after=20),
    )
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import Config, TrackingConfig, load_config
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import detect_inputs
from queryinst_vis.interop.mmdet_samples import (
    input_sizes,
    instance_fields,
    loss_name,
    output_sizes,
    target_of,
)
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Batch, Detections, Embedding
from queryinst_vis.tracking.tracker import Tracker
from queryinst_vis.training.step import TrainingStep

try:
    from mmdet.models.detectors.base import BaseDetector
    from mmdet.models.mot.base import BaseMOTModel
    from mmdet.models.trackers.base_tracker import BaseTracker
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample, TrackDataSample
    from mmengine.structures import InstanceData
except ImportError as error:
    raise InputError(
        f"queryinst_vis.interop.mmdet_plugin requires mmdetection 3, which is not installed "
        f"({error}); see docs/dependencies.md for how to install it"
    ) from error


@MODELS.register_module()
class QueryInstVisDetector(BaseDetector):
    """QueryInst as an mmdet detector.

    Args:
        config: YAML config of the model to train; its weights are loaded by mmdet's ``load_from``
            and ``resume``.
        weights: for inference only, instead of a config: name or file of weights in the format of
            this package.
        overrides: config overrides, e.g. ``["model.num_queries=10"]``.
        data_preprocessor: None: a ``DetDataPreprocessor`` with the model's mean and std.
        init_cfg: as for all mmdet models.

    Raises:
        InputError: both or neither of config and weights are given, or cannot be used.
    """

    def __init__(
        self,
        config: str | None = None,
        weights: str | None = None,
        overrides: list[str] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if config is not None and weights is None:
            settings = load_config(config, overrides)
            network = build_model(settings)
        elif weights is not None and config is None:
            network, settings = load_model(weights, "cpu", overrides)
        else:
            raise InputError(
                "QueryInstVisDetector: give either a config (training) or weights (inference)"
            )
        if data_preprocessor is None:
            data_preprocessor = _preprocessor("DetDataPreprocessor", settings)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = network
        self.settings = settings
        self.trainable = config is not None

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Map ``(B, 3, H, W)`` images to P2..P5."""
        return tuple(self.network.extract_features(batch_inputs))

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Losses of every stage by name.

        Raises:
            InputError: the model was built from ``weights``, or samples have no masks.
        """
        return self.losses_of(self.batch_of(batch_inputs, batch_data_samples))

    def batch_of(self, images: Tensor, samples: list[DetDataSample]) -> Batch:
        """Images and their ground truth as a ``Batch``."""
        ignore = self.settings.losses.ignore_overlap is not None
        return Batch(images, [target_of(sample, images.device, ignore) for sample in samples])

    def losses_of(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of images or pairs of frames, by mmengine's names."""
        if not self.trainable:
            raise InputError(
                "QueryInstVisDetector: built from weights, which have no heads for training; give "
                "a config instead"
            )
        step = TrainingStep(
            self.network,
            Criterion(self.settings.losses, self.settings.model.mask.parallel),
            self.settings.losses.track,
            self.settings.train.both_ways,
        )
        return {loss_name(name): loss for name, loss in step(batch).items()}

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Add ``pred_instances`` to the samples.

        Boxes and masks are in pixels of the image files with ``rescale``, otherwise of the network
        input.
        """
        found = self.find(
            batch_inputs,
            batch_data_samples,
            rescale,
            self.settings.inference.one_label_per_query,
        )
        instances = [InstanceData(**instance_fields(detections)) for detections in found]
        return self.add_pred_to_datasample(batch_data_samples, instances)

    def find(
        self,
        images: Tensor,
        samples: list[DetDataSample],
        rescale: bool,
        one_label_per_query: bool,
        embedding: Embedding | None = "track_head",
    ) -> list[Detections]:
        """Detections of each image, with embeddings for the tracker."""
        inference = replace(self.settings.inference, one_label_per_query=one_label_per_query)
        sizes, original_sizes = input_sizes(samples), output_sizes(samples, rescale)
        return detect_inputs(self.network, images, sizes, original_sizes, inference, embedding)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, N, K)`` and boxes ``(B, N, 4)`` of the last stage."""
        if batch_data_samples is None:
            height, width = batch_inputs.shape[-2:]
            sizes = [(height, width)] * len(batch_inputs)
        else:
            sizes = input_sizes(batch_data_samples)
        last = self.network(batch_inputs, sizes).stages[-1]
        return last.class_logits, last.boxes


@MODELS.register_module()
class QueryInstVisTracker(BaseTracker):
    """Online association as an mmdet tracker.

    The arguments are those of the config's ``tracking`` section, except settings that need frames
    or their times.
    """

    def __init__(
        self,
        rule: str | None = None,
        score_weight: float = 1.0,
        iou_weight: float = 2.0,
        label_weight: float = 10.0,
        match_threshold: float | None = None,
        high_score: float | None = None,
        min_hits: int = 1,
        max_jump: float | None = None,
        expire_after: int | None = None,
        max_tracks: int | None = None,
    ) -> None:
        settings = TrackingConfig(
            rule=rule,
            score_weight=score_weight,
            iou_weight=iou_weight,
            label_weight=label_weight,
            match_threshold=match_threshold,
            high_score=high_score,
            min_hits=min_hits,
            max_jump=max_jump,
            expire_after=expire_after,
            max_tracks=max_tracks,
        )
        self.association = Tracker(settings)
        super().__init__()  # calls reset

    def reset(self) -> None:
        """Forget all tracks: the next frame is the first of a video."""
        super().reset()
        self.association.reset()

    def track(self, detections: Detections) -> Detections:
        """The detections of the next frame that belong to a track, with their ``track_ids``."""
        return self.association.update(detections)


@MODELS.register_module()
class QueryInstVisModel(BaseMOTModel):
    """QueryInst-VIS as an mmdet video model: a detector and a tracker.

    Args:
        detector: a ``QueryInstVisDetector``.
        tracker: a ``QueryInstVisTracker``.
        data_preprocessor: None: a ``TrackDataPreprocessor`` with the detector's mean and std.
        init_cfg: as for all mmdet models.

    Raises:
        InputError: the tracker's rule needs a track head and the detector has none.
    """

    def __init__(
        self,
        detector: dict[str, Any],
        tracker: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        built: QueryInstVisDetector = MODELS.build(detector)
        if data_preprocessor is None:
            data_preprocessor = _preprocessor("TrackDataPreprocessor", built.settings)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.detector = built
        self.tracker: QueryInstVisTracker = MODELS.build(tracker)
        self.embedding = self.tracker.association.embedding
        if self.embedding == "track_head" and built.network.track_head is None:
            raise InputError(
                "QueryInstVisModel: the detector has no track head; build it with "
                "overrides=['model.track.enabled=true'], or track with rule='bytetrack'"
            )

    def loss(self, inputs: Tensor, data_samples: list[TrackDataSample]) -> dict[str, Tensor]:
        """Losses of pairs of frames.

        Args:
            inputs: ``(B, 2, 3, H, W)``.
            data_samples: index of the key frame, and the ground truth of both frames.
        """
        key = [sample.key_frames_inds[0] for sample in data_samples]
        reference = [sample.ref_frames_inds[0] for sample in data_samples]
        rows = torch.arange(len(inputs))
        batch_of = self.detector.batch_of
        batch = batch_of(inputs[rows, key], [s.get_key_frames()[0] for s in data_samples])
        batch.reference = batch_of(
            inputs[rows, reference], [s.get_ref_frames()[0] for s in data_samples]
        )
        return self.detector.losses_of(batch)

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: list[TrackDataSample], rescale: bool = True
    ) -> list[TrackDataSample]:
        """Add ``pred_track_instances`` to the frames, as expected by mmdet's YouTube-VIS metric.

        Args:
            inputs: ``(1, T, 3, H, W)``, T consecutive frames; calls may continue a video.
            data_samples: the sample of the video; the tracker is reset at ``frame_id`` 0.
            rescale: return results in pixels of the image files instead of the inputs.

        Raises:
            InputError: more than one video in a batch.
        """
        if len(data_samples) != 1:
            raise InputError(
                f"QueryInstVisModel: tracks one video at a time, got {len(data_samples)}; "
                "set batch_size=1 in the test dataloader"
            )
        video = data_samples[0]
        for index in range(len(video)):
            frame = video[index]
            if frame.metainfo["frame_id"] == 0:
                self.tracker.reset()
            # with two labels, a query would become two instances with the same mask
            (found,) = self.detector.find(inputs[:, index], [frame], rescale, True, self.embedding)
            tracked = self.tracker.track(found)
            frame.pred_track_instances = InstanceData(**instance_fields(tracked))
        return data_samples


def _preprocessor(kind: str, settings: Config) -> dict[str, Any]:
    """Config of the mmdet preprocessor for BGR images."""
    backbone = settings.model.backbone
    return {
        "type": f"mmdet.{kind}",  # resolved in any registry scope
        "mean": backbone.mean,
        "std": backbone.std,
        "bgr_to_rgb": True,
        "pad_mask": True,
        "pad_size_divisor": 32,
    }
