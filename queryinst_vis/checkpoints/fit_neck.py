"""Fitting the FPN after a change of backbone, so that the heads keep working."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from queryinst_vis.checkpoints.query_rules import Source
from queryinst_vis.checkpoints.weights import build_for_inference
from queryinst_vis.config import Config, DatasetConfig
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import sample_images
from queryinst_vis.data.records import ImageRecord
from queryinst_vis.data.transforms import network_input
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.progress import ProgressBar

IMAGES = 300  # maximum number of images, evenly spaced in the set
HELD_OUT = 10  # every tenth image measures the fit
RIDGE = 1e-4  # regularisation, relative to the variance of each feature


class LevelFit:
    """Ridge regression from a backbone map to the lateral features of another model.

    Args:
        features: channels of the backbone map.
        channels: channels of the lateral features.
    """

    def __init__(self, features: int, channels: int) -> None:
        self._power = torch.zeros(features + 1, features + 1, dtype=torch.float64)
        self._product = torch.zeros(features + 1, channels, dtype=torch.float64)
        self._error = self._variance = 0.0

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add the ``(P, features)`` inputs and ``(P, channels)`` targets of an image."""
        inputs = _with_constant(inputs)
        self._power += inputs.T @ inputs
        self._product += inputs.T @ targets

    def solve(self) -> Tensor:
        """``(features + 1, channels)`` weights; the last row is the bias."""
        count, sums = self._power[-1, -1], self._power[-1]
        variance = self._power.diagonal() - sums.square() / count  # 0 for the constant
        floor = 1e-9 * self._power.diagonal().max()  # some features are always zero
        regularised = self._power + torch.diag(RIDGE * variance + floor)
        return torch.linalg.solve(regularised, self._product)

    def measure(self, solution: Tensor, inputs: Tensor, targets: Tensor) -> None:
        """Add the error on a held-out image."""
        self._error += float((_with_constant(inputs) @ solution - targets).square().sum())
        self._variance += float((targets - targets.mean(dim=0)).square().sum())

    @property
    def explained(self) -> float:
        """Explained share of the variance of the held-out targets (R²)."""
        return 1 - self._error / max(self._variance, 1e-12)


@torch.inference_mode()
def fit_neck(model: QueryInst, config: Config, source: Source, images: DatasetConfig) -> list[str]:
    """Fit the lateral FPN convolutions of a model to those of the checkpoint it starts from.

    A linear map of another pretrained backbone's features reproduces much of what the
    checkpoint's heads are trained on, so that training does not start from random features.

    Args:
        model: on the CPU, with the checkpoint's heads; its lateral convolutions are replaced.
        config: of the model.
        source: the checkpoint.
        images: a COCO or YouTube-VIS set; its annotations are not used.

    Returns:
        A message with R² per level, measured on every tenth image.

    Raises:
        InputError: the models differ in ``model.channels``, or the set is invalid or has fewer
            than ten images.
    """
    if source.config.model.channels != config.model.channels:
        raise InputError(
            f"fitting the FPN: the checkpoint has {source.config.model.channels} channels, the "
            f"model {config.model.channels}; set model.channels={source.config.model.channels}"
        )
    records = sample_images(images, config.model.classes, IMAGES)
    if len(records) < HELD_OUT:
        raise InputError(
            f"fitting the FPN: {images.annotations} has {len(records)} images; at least "
            f"{HELD_OUT} are necessary"
        )
    old = build_for_inference(source.config, source.weights, "checkpoint")
    old_config = replace(source.config, input=config.input)  # both see images of the same size
    model.eval()
    fits = [LevelFit(count, config.model.channels) for count in model.backbone.channels]

    def read(record: ImageRecord) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of each level."""
        frame = load_pixels(record)
        maps = model.backbone(network_input([frame], config)[0])
        old_maps = old.backbone(network_input([frame], old_config)[0])
        blocks = old.neck.pyramid.inner_blocks
        laterals = [block(level) for block, level in zip(blocks, old_maps, strict=True)]
        return zip(map(_positions, maps), map(_positions, laterals), strict=True)

    with ProgressBar("fitting the FPN", len(records)) as progress:
        for index, record in enumerate(records):
            if index % HELD_OUT:
                for fit, level in zip(fits, read(record), strict=True):
                    fit.add(*level)
                progress.advance()
        solutions = [fit.solve() for fit in fits]
        for record in records[::HELD_OUT]:
            for fit, solution, level in zip(fits, solutions, read(record), strict=True):
                fit.measure(solution, *level)
            progress.advance()
    for block, solution in zip(model.neck.pyramid.inner_blocks, solutions, strict=True):
        convolution = block[0]
        convolution.weight.copy_(solution[:-1].T[:, :, None, None])
        convolution.bias.copy_(solution[-1])
    shares = ", ".join(f"{fit.explained:.2f}" for fit in fits)
    return [f"  neck: lateral convolutions fitted on {len(records)} images, R² per level {shares}"]


def _positions(maps: Tensor) -> Tensor:
    """Map ``(1, C, H, W)`` to ``(H * W, C)``, in float64."""
    return maps[0].flatten(1).T.double()


def _with_constant(inputs: Tensor) -> Tensor:
    """Append a column of ones, whose weight is the bias."""
    return torch.cat((inputs, inputs.new_ones(len(inputs), 1)), dim=1)
