"""Our detector and tracker inside mmdetection 3: an mmdet config imports this module by name.

Example, instead of a model's parts (training and testing are mmdet's own)::

    custom_imports = dict(imports=["queryinst_vis.interop.mmdet_plugin"])
    model = dict(type="QueryInstVisDetector", config="configs/coco/queryinst_r50_100q_1x.yaml")

and for videos::

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
        f"queryinst_vis.interop.mmdet_plugin works inside mmdetection 3, which is not installed "
        f"({error}); docs/dependencies.md says how to install it"
    ) from error


@MODELS.register_module()
class QueryInstVisDetector(BaseDetector):
    """QueryInst as an mmdet detector.

    Args:
        config: YAML config of the model to train; mmdet's ``load_from`` and ``resume`` fill it.
        weights: instead of a config: weights of ours, by name or file, for inference alone.
        overrides: changes of the config, ``["model.num_queries=10"]``.
        data_preprocessor: None: the ``DetDataPreprocessor`` that belongs to the model.
        init_cfg: as everywhere in mmdet.

    Raises:
        InputError: both or neither of config and weights, or one that cannot be used.
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
                "QueryInstVisDetector: name a config (to train) or weights (to infer), one of both"
            )
        if data_preprocessor is None:
            data_preprocessor = _preprocessor("DetDataPreprocessor", settings)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = network
        self.settings = settings
        self.trainable = config is not None

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` images to P2..P5."""
        return tuple(self.network.extract_features(batch_inputs))

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Losses of every stage by name.

        Raises:
            InputError: built from ``weights``, or samples without masks.
        """
        return self.losses_of(self.batch_of(batch_inputs, batch_data_samples))

    def batch_of(self, images: Tensor, samples: list[DetDataSample]) -> Batch:
        """Images with their ground truth, as the losses read it."""
        ignore = self.settings.losses.ignore_overlap is not None
        return Batch(images, [target_of(sample, images.device, ignore) for sample in samples])

    def losses_of(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by mmengine's names, of images or of pairs of frames."""
        if not self.trainable:
            raise InputError(
                "QueryInstVisDetector: weights lack what training needs; name a config instead"
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
        """The samples with ``pred_instances``, in pixels of the files or of the inputs."""
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
        """Detections of each image, with what describes them to the tracker."""
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
    """Our online association.

    The arguments are those of our config's ``tracking`` section, but for those that need the
    frames or their times.
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
        super().__init__()  # resets, and so comes last

    def reset(self) -> None:
        """Forget everything: the next frame is the first of a video."""
        super().reset()
        self.association.reset()

    def track(self, detections: Detections) -> Detections:
        """The next frame's detections that have an identity, with their ``track_ids``."""
        return self.association.update(detections)


@MODELS.register_module()
class QueryInstVisModel(BaseMOTModel):
    """QueryInst-VIS as an mmdet video model: a detector and the tracker that links its frames.

    Args:
        detector: a ``QueryInstVisDetector``.
        tracker: a ``QueryInstVisTracker``.
        data_preprocessor: None: the ``TrackDataPreprocessor`` that belongs to the detector.
        init_cfg: as everywhere in mmdet.

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
            data_samples: which of the two is the key frame, and the ground truth of both.
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
        """The frames with ``pred_track_instances``, which mmdet's YouTube-VIS metric reads.

        Args:
            inputs: ``(1, T, 3, H, W)``, T frames in order; one may follow on from another call.
            data_samples: of the one video; a frame with ``frame_id`` 0 begins a new one.
            rescale: give results in pixels of the files instead of the inputs.

        Raises:
            InputError: more than one video at once.
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
            # a query under two labels would be two instances with one mask
            (found,) = self.detector.find(inputs[:, index], [frame], rescale, True, self.embedding)
            tracked = self.tracker.track(found)
            frame.pred_track_instances = InstanceData(**instance_fields(tracked))
        return data_samples


def _preprocessor(kind: str, settings: Config) -> dict[str, Any]:
    """What mmdet does to BGR images before our network sees them."""
    backbone = settings.model.backbone
    return {
        "type": f"mmdet.{kind}",  # found in whatever scope the model is built
        "mean": backbone.mean,
        "std": backbone.std,
        "bgr_to_rgb": True,
        "pad_mask": True,
        "pad_size_divisor": 32,
    }
