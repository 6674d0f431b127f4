"""Detection of instances in images."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar, overload, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.config import Config, InferenceConfig, check_numbers
from queryinst_vis.data.transforms import fit_size, network_input, padded_size
from queryinst_vis.errors import InputError
from queryinst_vis.inference.filters import check_classes, of_classes, with_thresholds
from queryinst_vis.inference.onnx_model import load_onnx_model
from queryinst_vis.inference.openvino_model import load_openvino_model
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.precision import inference_dtype
from queryinst_vis.inference.static_runner import StaticRunner
from queryinst_vis.models.cuda.inference_form import is_cuda_form
from queryinst_vis.models.postprocess import SetPredictor, detect
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.suppression import OVERLAPS
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.utils.device import plain_defaults
from queryinst_vis.utils.images import ImageLike, Size, to_array

AnyImage = TypeVar("AnyImage", bound=ImageLike)

EXPORTED = {".onnx": load_onnx_model, ".xml": load_openvino_model}
"""Loaders of exported models, by file suffix."""


@runtime_checkable
class FrameDetector(Protocol):
    """Interface of detectors for ``VideoTracker``, such as ``Detector``.

    Attributes:
        config: changes of its ``input``, ``inference`` and ``tracking`` keys apply to the next
            frame.
        has_track_head: whether it provides track-head embeddings.
    """

    config: Config
    has_track_head: bool

    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = "track_head"
    ) -> list[Detections]:
        """Detect and segment the instances of each frame independently.

        Args:
            frames: any number of ``(H, W, 3)`` uint8 RGB frames.
            embedding: kind of association embedding; None, or a track head that the
                model does not have: no embeddings.

        Returns:
            Detections in pixels of the frames, on the CPU.

        Raises:
            InputError: a frame with wrong shape or dtype.
        """


def is_exported(weights: str | Path) -> bool:
    """Whether weights are an exported model, by file suffix."""
    return Path(weights).suffix in EXPORTED


class Detector:
    """Instance segmentation of images (paper 3, 4.2): images in, detections out.

    Args:
        model: a ``QueryInst`` on any device, which is set to eval mode, or an exported model.
        config: of the model; the ``input``, ``inference`` and ``model.backbone`` keys are used.

    Attributes:
        config: as above; may be replaced between images.
        has_track_head: whether the model provides track-head embeddings.

    Raises:
        InputError: settings out of range.

    Example::

        detector = Detector.from_pretrained("people")
        detections = detector.detect("photo.jpg")
        print(detections.boxes, detections.masks().shape)
        detections.plot().save("found.png")
    """

    def __init__(self, model: SetPredictor, config: Config) -> None:
        check_inference(config)
        if isinstance(model, nn.Module):
            model.eval()
        self.config = config
        self.has_track_head = model.has_track_head
        self._model = model
        self._runner: StaticRunner | None = None
        if isinstance(model, QueryInst) and is_cuda_form(model):
            self._runner = StaticRunner(model)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        device: str | torch.device = "auto",
        overrides: list[str] | None = None,
        max_size: int | None = None,
        score_threshold: float | None = None,
    ) -> Detector:
        """Load a detector from weights by name, or from a file.

        Args:
            name_or_path: name of weights, a ``.safetensors`` file, a ``last.ckpt``, an
                ``.onnx`` file of ``export_onnx``, which onnxruntime runs, or the ``.xml`` file
                of ``export_openvino``, which OpenVINO runs.
            device: ``"auto"``: a GPU if available.
            overrides: dotlist overrides, such as ``["inference.score_threshold=0.3"]``.
            max_size: maximum longer side of the network input in pixels, to trade accuracy for
                speed. None: ``input.test_long`` of the config.
            score_threshold: 0..1, overrides ``inference.score_threshold``.

        Raises:
            InputError: invalid weights, device or overrides; ``max_size``
                below 1, or with an exported file, whose input size is fixed.
        """
        if score_threshold is not None:
            overrides = [f"inference.score_threshold={score_threshold}", *(overrides or [])]
        load_exported = EXPORTED.get(Path(name_or_path).suffix)
        if load_exported is not None:
            if max_size is not None:
                raise InputError(
                    f"max_size: the network input of {name_or_path} is fixed; export the weights "
                    "with a smaller --size instead"
                )
            return cls(*load_exported(name_or_path, device, overrides))
        model, config = load_model(name_or_path, device, overrides)
        if max_size is not None:
            config = _with_max_size(config, max_size)
        return cls(*optimize_for_inference(model, config))

    @property
    def class_names(self) -> list[str]:
        """Names of the labels."""
        return list(self.config.model.classes)

    @overload
    def detect(
        self,
        image: ImageLike,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
        bgr: bool = False,
    ) -> Detections: ...

    @overload
    def detect(
        self,
        image: list[AnyImage],
        batch: int = 1,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
        bgr: bool = False,
    ) -> list[Detections]: ...

    def detect(
        self,
        image: ImageLike | list[AnyImage],
        batch: int = 1,
        *,
        classes: Sequence[str | int] | None = None,
        conf: float | None = None,
        iou: float | None = None,
        bgr: bool = False,
    ) -> Detections | list[Detections]:
        """Detect and segment the instances of one image, or of each image of a list.

        Args:
            image: a path, an ``(H, W, 3)`` uint8 RGB array or a PIL image. Files are rotated
                upright by their EXIF orientation; arrays and PIL images are used as they are.
            batch: batch size for a list of images. Images of different sizes are padded to a common
                size, which changes the results slightly.
            classes: only these classes, by name or 0-based label; None: all.
            conf: score threshold, 0..1; None: ``inference.score_threshold``.
            iou: IoU threshold for NMS, 0..1; None: ``inference.nms_threshold``.
            bgr: whether the channels of arrays are BGR, as in OpenCV.

        Returns:
            Detections in pixels of the image, by descending score, on the CPU, with
            ``class_names`` and the given ``image`` (for ``plot`` and ``crops``); a list
            of them for a list of images.

        Raises:
            InputError: an unreadable image; an unknown class; ``batch`` below 1, or a threshold
                out of range.
        """
        if batch < 1:
            raise InputError(f"batch must be 1 or more, got {batch}")
        check_classes(classes, self.class_names)
        detector = with_thresholds(self, conf, iou)
        images = image if isinstance(image, list) else [image]
        found: list[Detections] = []
        for start in range(0, len(images), batch):
            given = images[start : start + batch]
            frames = [to_array(each, bgr) for each in given]
            for each, frame, detections in zip(
                given, frames, detector.detect_frames(frames, embedding=None), strict=True
            ):
                if classes is not None:
                    detections = of_classes(detections, classes)
                # keep only the path, which is read again when needed, to save memory
                detections.image = frame if isinstance(each, np.ndarray) else each
                found.append(detections)
        return found if isinstance(image, list) else found[0]

    __call__ = detect

    @torch.inference_mode()
    @plain_defaults()
    def detect_frames(
        self, frames: list[np.ndarray], embedding: Embedding | None = "track_head"
    ) -> list[Detections]:
        """See ``FrameDetector``; all frames form one batch."""
        if not frames:
            return []
        dtype = inference_dtype(self.config)
        if self._runner is not None and len({frame.shape for frame in frames}) == 1:
            found = self._runner.detect(frames, self.config, dtype, embedding)
        else:
            found = self._detect(frames, dtype, embedding)
        for detections in found:
            detections.class_names = self.class_names
        return found

    def batch_key(self, frame: np.ndarray) -> Hashable:
        """Key for batching: frames with the same key do not affect each other's detections.

        They have the same network input size; compiled for a GPU, the same frame size.
        """
        height, width = frame.shape[:2]
        if self._runner is not None:
            return height, width
        size = self.config.input
        return padded_size([fit_size(height, width, size.test_short, size.test_long)])

    def _detect(
        self, frames: list[np.ndarray], dtype: torch.dtype, embedding: Embedding | None
    ) -> list[Detections]:
        images, image_sizes = network_input(frames, self.config)
        original_sizes = [(frame.shape[0], frame.shape[1]) for frame in frames]
        inference, device = self.config.inference, self._model.device
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            found = detect_inputs(
                self._model, images.to(device), image_sizes, original_sizes, inference, embedding
            )
        return [detections.to("cpu") for detections in found]


def detect_inputs(
    model: SetPredictor,
    images: Tensor,
    image_sizes: list[Size],
    original_sizes: list[Size],
    inference: InferenceConfig,
    embedding: Embedding | None = "track_head",
) -> list[Detections]:
    """``models.postprocess.detect`` with the settings of a config.

    Args:
        model: in eval mode.
        images: ``(B, 3, H, W)`` normalised and padded network input, on the model's device.
        image_sizes: ``(height, width)`` of each input without padding.
        original_sizes: ``(height, width)`` of the images that the results refer to.
        inference: thresholds and limits.
        embedding: as for ``FrameDetector.detect_frames``.

    Returns:
        Detections of each image, on the model's device.
    """
    return detect(
        model,
        images,
        image_sizes,
        original_sizes,
        score_threshold=inference.score_threshold,
        max_per_image=inference.max_per_image,
        one_label_per_query=inference.one_label_per_query,
        mask_threshold=inference.mask_threshold,
        nms_threshold=inference.nms_threshold,
        nms_overlap=inference.nms_overlap,
        embedding=embedding,
    )


def check_inference(config: Config) -> None:
    """Raise an InputError for inference settings that are out of range."""
    inference = config.inference
    check_numbers(config.input, "input")
    check_numbers(inference, "inference")
    if inference.nms_overlap not in OVERLAPS:
        raise InputError(
            f"inference.nms_overlap '{inference.nms_overlap}': choose one of {', '.join(OVERLAPS)}"
        )


def _with_max_size(config: Config, max_size: int) -> Config:
    """The config with ``input.test_long`` limited to ``max_size``."""
    if max_size < 1:
        raise InputError(f"max_size must be 1 or more, got {max_size}")
    test_long = min(config.input.test_long, max_size)
    return replace(config, input=replace(config.input, test_long=test_long))
