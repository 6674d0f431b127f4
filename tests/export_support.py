"""A tiny model to export, and the outputs that an exported file must reproduce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from queryinst_vis.config import Config
from queryinst_vis.models.build import build_model
from queryinst_vis.models.queryinst import QueryInst
from tests.closeness import assert_equal_detections
from tests.tiny import draw_frame, tiny_config

SIDE = 512  # of the square network input: large enough for boxes of every level

BATCH = 2

PROPOSALS = [  # one box and more for each level
    (0.5, 0.5, 1.0, 1.0),
    (0.3, 0.3, 0.5, 0.5),
    (0.6, 0.6, 0.25, 0.25),
    (0.2, 0.7, 0.1, 0.1),
    (0.5, 0.6, 0.8, 0.2),
]

OUTPUTS = ["class_logits", "boxes", "mask_logits", "queries", "embeddings"]

SHARE = 1e-4  # two runtimes with different kernels


@dataclass
class Exported:
    path: Path
    model: QueryInst
    config: Config
    said: str


def tiny_model(track: bool = True) -> tuple[QueryInst, Config]:
    config = tiny_config(track=track)
    config.input = replace(config.input, test_short=SIDE, test_long=SIDE)
    torch.manual_seed(0)
    model = build_model(config).eval()
    with torch.no_grad():
        model.proposals.copy_(torch.tensor(PROPOSALS))
        for stage in model.stages:
            stage.box_predictor.weight.mul_(0.1)  # so that boxes stay near the image
        if track:
            model.track_head.fcs[1].weight.mul_(30)  # embeddings of the norm of trained ones
    return model, config


def square_frames(count: int) -> list[np.ndarray]:
    return [np.ascontiguousarray(draw_frame(index)[:, 16:80]) for index in range(count)]


def network_inputs() -> tuple[torch.Tensor, list[tuple[int, int]]]:
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images[1, :, SIDE - 40 :] = 0
    return images, [(SIDE, SIDE), (SIDE - 40, SIDE)]


@torch.no_grad()
def outputs_of_pytorch(model: QueryInst) -> dict[str, torch.Tensor]:
    output = model(*network_inputs())
    last = output.stages[-1]
    everything = [torch.arange(len(PROPOSALS))] * BATCH
    masks = model.mask_logits(-1, output, everything)
    embeddings = model.track_head(output.features, list(last.boxes), list(last.q_star))
    return {
        "class_logits": last.class_logits,
        "boxes": last.boxes,
        "mask_logits": masks.unflatten(0, (BATCH, -1)),
        "queries": last.queries,
        "embeddings": embeddings.unflatten(0, (BATCH, -1)),
    }


def assert_same_detections(found, expected):
    """Detections of every frame, within the tolerances of the network outputs."""
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) > 0
        assert_equal_detections(ours, theirs, SHARE)
