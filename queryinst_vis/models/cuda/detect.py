"""``models.postprocess.detect`` with static shapes, from uint8 frames to one result buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from queryinst_vis.models.cuda.frames import to_network_input
from queryinst_vis.models.cuda.masks import find_run_boundaries
from queryinst_vis.models.postprocess import rank_queries
from queryinst_vis.models.queryinst import QueryInst, QueryInstOutput, gather_rows
from queryinst_vis.structures import Embedding

BOUNDARIES_PER_COLUMN = 4
"""Capacity for run boundaries of a mask per frame column, enough for two runs per column. Masks
with more are pasted on the host."""


@dataclass(frozen=True)
class StaticSettings:
    """The settings shared by all frames of a video.

    Attributes:
        frame_size: ``(height, width)`` of the frames.
        input_size: ``(height, width)`` of the resized frames.
        padded_size: ``(height, width)`` of the network input.
        mean, std: per RGB channel, for pixel values 0..255.
        max_per_image, one_label_per_query, mask_threshold, embedding: as for
            ``models.postprocess.detect``.
    """

    frame_size: tuple[int, int]
    input_size: tuple[int, int]
    padded_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_per_image: int
    one_label_per_query: bool
    mask_threshold: float
    embedding: Embedding | None


class StaticDetections(NamedTuple):
    """The top ``K`` detections of each of ``B`` frames, regardless of their scores.

    Attributes:
        boxes: ``(B, K, 4)`` float32 xyxy in pixels of the frames.
        scores: ``(B, K)`` float32, descending.
        labels: ``(B, K)`` int32.
        mask_logits: ``(B, K, 28, 28)`` float32.
        run_boundaries: ``(B, K, T)`` int32, from ``find_run_boundaries``.
        boundary_counts: ``(B, K)`` int32, from ``find_run_boundaries``.
        embeddings: ``(B, K, D)`` float32; D is 0 without embeddings.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    run_boundaries: Tensor
    boundary_counts: Tensor
    embeddings: Tensor

    def pack(self) -> Tensor:
        """All fields in one int32 buffer, to transfer them to the host in a single copy."""
        return torch.cat([field.contiguous().view(torch.int32).flatten() for field in self])

    def unpack(self, buffer: Tensor) -> StaticDetections:
        """Views into a packed buffer of detections with the same shapes."""
        parts = buffer.split([field.numel() for field in self])
        fields = [
            part.view(field.dtype).view(field.shape)
            for part, field in zip(parts, self, strict=True)
        ]
        return StaticDetections(*fields)


class StaticDetector(nn.Module):
    """Detects and segments instances without host synchronisation (paper 4.2).

    The top ``max_per_image`` queries all get a mask and an embedding; the score threshold and NMS
    are applied on the host.

    Args:
        model: converted by ``to_cuda_form``.
        settings: settings of the video.
    """

    mean: Tensor
    std: Tensor
    input_size: Tensor
    box_scale: Tensor

    def __init__(self, model: QueryInst, settings: StaticSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        (height, width), (frame_height, frame_width) = settings.input_size, settings.frame_size
        scale = frame_width / width, frame_height / height
        for name, values in (
            ("mean", torch.tensor(settings.mean).view(3, 1, 1)),
            ("std", torch.tensor(settings.std).view(3, 1, 1)),
            ("input_size", torch.tensor([[height, width]], dtype=torch.float32)),
            ("box_scale", torch.tensor([*scale, *scale])),
        ):
            self.register_buffer(name, values.to(model.device), persistent=False)

    def forward(self, frames: Tensor) -> StaticDetections:
        """Detect the instances of each frame.

        Args:
            frames: ``(B, *frame_size, 3)`` uint8 RGB on the model's device.
        """
        settings = self.settings
        images = to_network_input(
            frames, settings.input_size, settings.padded_size, self.mean, self.std
        )
        output = self.model(images, self.input_size.expand(len(frames), -1))
        last = output.stages[-1]
        queries, labels, scores = rank_queries(
            last.class_logits.float().sigmoid(),
            settings.max_per_image,
            settings.one_label_per_query,
        )
        picks = list(queries)
        masks = self.model.mask_logits(-1, output, picks, labels.flatten()).float()
        boxes = torch.cat(gather_rows(last.boxes, picks)).float() * self.box_scale
        run_boundaries, boundary_counts = find_run_boundaries(
            masks,
            boxes,
            settings.frame_size,
            settings.mask_threshold,
            capacity=BOUNDARIES_PER_COLUMN * settings.frame_size[1],
        )
        embeddings = self._embed(output, picks)
        shape = queries.shape
        return StaticDetections(
            boxes=boxes.view(*shape, 4),
            scores=scores,
            labels=labels.int(),
            mask_logits=masks.view(*shape, *masks.shape[1:]),
            run_boundaries=run_boundaries.view(*shape, -1),
            boundary_counts=boundary_counts.view(shape),
            embeddings=embeddings.view(*shape, embeddings.shape[1]),
        )

    def _embed(self, output: QueryInstOutput, picks: list[Tensor]) -> Tensor:
        """``(B * K, D)`` float32 embeddings of the selected queries."""
        if self.settings.embedding == "query":
            return torch.cat(gather_rows(output.stages[-1].queries, picks)).float()
        if self.settings.embedding == "track_head":
            embeddings = self.model.track_embeddings(output, picks)
            if embeddings is not None:
                return embeddings.float()
        return output.features[0].new_zeros(sum(map(len, picks)), 0)
