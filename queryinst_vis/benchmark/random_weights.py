"""Weights for a model that nobody has trained yet, which cost as much as trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import load_config
from queryinst_vis.models.build import build_model

_SMALLEST = 1 / 16  # of the frame's sides
_DELTA_SCALE = 0.1
_MASK_BIAS = 100.0  # above the logits of random features


def save_random_weights(
    path: Path, config_path: str | Path, overrides: list[str], seed: int
) -> None:
    """Write random weights of a config's model that behave as trained ones do where it counts.

    What a model reads, and so its time, depends on its boxes. Those of a fresh model all cover
    the whole image, and six random refinements throw them far outside. So the learned boxes are
    drawn anew, from a 16th of the frame's sides to all of them, which takes every level of the
    pyramid; and the weights of each stage's ``box_predictor`` are multiplied by 0.1, so that
    the boxes stay near the image, as those of a trained model do. What drawing and encoding
    take depends on outlines, which are short for a trained model's masks and endless for those
    of random weights: these masks are biased to fill their boxes.

    Args:
        path: the weights file to write.
        config_path: YAML file.
        overrides: dotlist changes of it.
        seed: the same seed gives the same weights.

    Raises:
        InputError: the config cannot be used.
    """
    config = load_config(config_path, overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config).strip_training_heads()
        with torch.no_grad():
            model.proposals.copy_(_draw_boxes(len(model.proposals)))
            for stage in model.stages:
                stage.box_predictor.weight.mul_(_DELTA_SCALE)
            model.mask_heads[-1].predictor.bias.fill_(_MASK_BIAS)
    save_weights(path, model, config)


def _draw_boxes(count: int) -> Tensor:
    """``(N, 4)`` (cx, cy, w, h) as fractions of the frame, inside of it, of all sizes."""
    sides = _SMALLEST ** torch.rand(count, 2)
    return torch.cat([sides / 2 + torch.rand(count, 2) * (1 - sides), sides], dim=1)
