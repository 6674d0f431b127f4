"""Low-overhead inference on a GPU: uint8 frames in, one buffer of results out."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.config import Config, InferenceConfig
from queryinst_vis.data.transforms import fit_size, padded_size
from queryinst_vis.errors import InputWarning, first_line
from queryinst_vis.masks import InstanceMask
from queryinst_vis.masks.paste import paste_masks
from queryinst_vis.masks.rle import compress
from queryinst_vis.models.cuda.detect import StaticDetections, StaticDetector, StaticSettings
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.suppression import Suppression
from queryinst_vis.structures import Detections, Embedding
from queryinst_vis.utils.images import check_frame

_PROGRAMS = 8  # number of combinations of frame and batch size that are cached (LRU)


class StaticRunner:
    """Detects instances in frames of equal size with one host synchronisation per batch.

    On a GPU, a combination of batch size and frame size is captured as a CUDA graph when it occurs
    for the second time; a replay takes one kernel launch instead of thousands. If capturing
    fails, operators are launched one by one, with a warning.

    Args:
        model: in the form of ``to_cuda_form``, on any device.
    """

    def __init__(self, model: QueryInst) -> None:
        self._model = model
        self._programs: OrderedDict[tuple[object, ...], _Program] = OrderedDict()
        self._lock = Lock()  # trackers in several threads share the programs and their buffers

    def __reduce__(self) -> tuple[type[StaticRunner], tuple[QueryInst]]:
        return StaticRunner, (self._model,)  # graphs and buffers are created again

    def detect(
        self,
        frames: list[np.ndarray],
        config: Config,
        dtype: torch.dtype,
        embedding: Embedding | None,
    ) -> list[Detections]:
        """Like ``FrameDetector.detect_frames``, for one or more frames of equal size.

        Args:
            frames: ``(H, W, 3)`` uint8 RGB each.
            config: ``input``, ``inference`` and ``model.backbone`` are used.
            dtype: dtype of matrix multiplications.
            embedding: kind of association embedding; None: no embeddings.

        Raises:
            InputError: a frame with wrong shape or dtype.
        """
        for frame in frames:
            check_frame(frame)
        settings = _settings(frames[0], config, embedding)
        with self._lock:
            found = self._program(len(frames), settings, dtype).run(frames)
            return [
                to_detections(StaticDetections(*fields), settings, config.inference)
                for fields in zip(*found, strict=True)
            ]

    def _program(self, batch: int, settings: StaticSettings, dtype: torch.dtype) -> _Program:
        """The cached program, which becomes the most recently used one."""
        key = batch, settings, dtype
        program = self._programs.pop(key, None)
        if program is None:
            program = _Program(StaticDetector(self._model, settings), batch, dtype)
        self._programs[key] = program
        while len(self._programs) > _PROGRAMS:
            self._programs.popitem(last=False)
        return program


def _settings(frame: np.ndarray, config: Config, embedding: Embedding | None) -> StaticSettings:
    frame_size = frame.shape[0], frame.shape[1]
    input_size = fit_size(*frame_size, config.input.test_short, config.input.test_long)
    inference = config.inference
    return StaticSettings(
        frame_size=frame_size,
        input_size=input_size,
        padded_size=padded_size([input_size]),
        mean=tuple(config.model.backbone.mean),
        std=tuple(config.model.backbone.std),
        max_per_image=inference.max_per_image,
        one_label_per_query=inference.one_label_per_query,
        mask_threshold=inference.mask_threshold,
        embedding=embedding,
    )


class _Program:
    """A network for one frame size and batch size, with its buffers.

    Args:
        detector: the network.
        batch: batch size.
        dtype: dtype of matrix multiplications.
    """

    def __init__(self, detector: StaticDetector, batch: int, dtype: torch.dtype) -> None:
        self._detector = detector
        self._dtype = dtype
        self._device = detector.model.device
        self._on_gpu = self._device.type == "cuda"
        shape = batch, *detector.settings.frame_size, 3
        self._staging = torch.empty(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._frames = torch.empty(shape, dtype=torch.uint8, device=self._device)
        self._runs = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._found: StaticDetections  # the last results on the device
        self._packed: Tensor
        self._received: Tensor | None = None

    def run(self, frames: list[np.ndarray]) -> StaticDetections:
        """The results of a batch, on the CPU; valid until the next call."""
        for place, frame in zip(self._staging.numpy(), frames, strict=True):
            place[:] = frame
        self._frames.copy_(self._staging, non_blocking=True)
        if self._on_gpu and self._runs == 1:  # not worth it for sizes that occur only once
            self._capture()
        self._runs += 1
        if self._graph is not None:
            self._graph.replay()
        else:
            self._compute()
        if self._received is None:
            self._received = torch.empty(
                self._packed.shape, dtype=torch.int32, pin_memory=self._on_gpu
            )
        self._received.copy_(self._packed, non_blocking=True)
        if self._on_gpu:
            torch.cuda.current_stream(self._device).synchronize()
        return self._found.unpack(self._received)

    def _compute(self) -> None:
        # no autocast cache: its entries would outlive the capture of a graph
        enabled = self._dtype != torch.float32
        with torch.autocast(self._device.type, self._dtype, enabled, cache_enabled=False):
            self._found = self._detector(self._frames)
            self._packed = self._found.pack()

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._device):
                aside = torch.cuda.Stream()
                aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(aside):
                    self._compute()  # warm-up: initialisation of libraries cannot be captured
                torch.cuda.current_stream().wait_stream(aside)
                # other threads may use the GPU meanwhile, to decode or to encode videos
                with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                    self._compute()
        except RuntimeError as error:
            reason = first_line(error)
            warnings.warn(
                f"this model cannot be captured as a CUDA graph ({reason}); it runs without one, "
                "with higher latency",
                InputWarning,
                stacklevel=2,
            )
            return
        self._graph = graph


def to_detections(
    found: StaticDetections, settings: StaticSettings, inference: InferenceConfig
) -> Detections:
    """Detections of a frame, after the score threshold and NMS.

    Args:
        found: outputs for the frame, on the CPU, without batch dimension.
        settings: settings of the network.
        inference: the thresholds.
    """
    suppression = Suppression(
        inference.nms_threshold, inference.nms_overlap, settings.one_label_per_query
    )
    rows = torch.nonzero(found.scores >= inference.score_threshold).squeeze(1)
    rows = rows[suppression.of_boxes(found.boxes[rows], found.scores[rows], found.labels[rows])]
    detections = Detections(
        boxes=found.boxes[rows],
        scores=found.scores[rows],
        labels=found.labels[rows].long(),
        image_size=settings.frame_size,
        mask_logits=found.mask_logits[rows],
        embeddings=found.embeddings[rows] if found.embeddings.shape[1] else None,
        mask_threshold=settings.mask_threshold,
        pixel_masks=[_mask(found, row, settings) for row in rows.tolist()],
    )
    return suppression.of_masks(detections)


def _mask(found: StaticDetections, row: int, settings: StaticSettings) -> InstanceMask:
    """The mask from its run lengths; pasted on the CPU if they exceed the buffer."""
    count, size = int(found.boundary_counts[row]), settings.frame_size
    if count > found.run_boundaries.shape[1]:
        one = slice(row, row + 1)
        [mask] = paste_masks(
            found.mask_logits[one], found.boxes[one], size, settings.mask_threshold
        )
        return mask
    boundaries = found.run_boundaries[row, :count].numpy()
    counts = np.diff(boundaries, prepend=0, append=size[0] * size[1])
    return InstanceMask(size, rle=compress(counts, *size))
