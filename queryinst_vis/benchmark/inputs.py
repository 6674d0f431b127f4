"""The inputs of a benchmark: weights and a video, given or generated, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.checkpoints.catalogue import find_weights, shipped_weights
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import Config, config_names, config_to_dict, load_config
from queryinst_vis.data.synthetic import PRESETS, generate
from queryinst_vis.models.build import build_model
from queryinst_vis.video.source import Source
from queryinst_vis.video.writer import VideoWriter

_SMALLEST_BOX = 1 / 16  # of the frame's sides
_DELTA_SCALE = 0.1
_MASK_BIAS = 100.0  # above the logits of random features


def obtain_weights(model: str | Path, overrides: list[str], seed: int, folder: Path) -> Path:
    """The weights file for a name or a path; for a config, random weights written to ``folder``.

    If shipped weights and a config have the same name, the weights are used.

    Raises:
        InputError: neither weights nor a config, or an invalid config.
    """
    is_config = Path(model).suffix.lower() in (".yaml", ".yml") or str(model) in config_names()
    if not is_config or str(model) in shipped_weights():
        return find_weights(model)
    path = folder / "random.safetensors"
    save_random_weights(path, model, overrides, seed)
    return path


def save_random_weights(
    path: Path, config_path: str | Path, overrides: list[str], seed: int
) -> None:
    """Write random weights for a config, with about the run time of trained weights.

    Run time depends on the boxes. In a newly initialised model all cover the whole image, and six
    random refinements move them far outside. Therefore, the learned boxes are random, with sides
    of 1/16 to 1 of the frame's, so that every pyramid level is used, and the weights of each
    stage's ``box_predictor`` are multiplied by 0.1, so that boxes stay close to the image. The
    time for drawing and encoding depends on the length of the contours, which are far too long in
    random masks: here, masks are biased to fill their boxes.

    Args:
        path: the weights file to write.
        config_path: YAML file or name, as for ``load_config``.
        overrides: dotlist overrides.
        seed: the same seed gives the same weights.

    Raises:
        InputError: the config is invalid.
    """
    config = load_config(config_path, overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config).strip_training_heads()
        with torch.no_grad():
            model.proposals.copy_(_draw_boxes(len(model.proposals)))
            for stage in model.stages:
                stage.box_predictor.weight.mul_(_DELTA_SCALE)
            model.mask_heads[-1].predictor.get_parameter("bias").fill_(_MASK_BIAS)
    save_weights(path, model, config)


def _draw_boxes(count: int) -> Tensor:
    """``(N, 4)`` random boxes inside the frame, (cx, cy, w, h) as fractions of its sides."""
    sides = _SMALLEST_BOX ** torch.rand(count, 2)
    return torch.cat([sides / 2 + torch.rand(count, 2) * (1 - sides), sides], dim=1)


def render_clip(size: tuple[int, int], frames: int, seed: int, folder: Path) -> Path:
    """Render an mp4 of moving shapes in ``folder``; ``size`` is (width, height).

    Raises:
        InputError: an invalid size, or a negative seed.
    """
    clip = PRESETS["demo"].override(videos=1, frames=frames, size=size)
    generate(folder / "clip", clip, seed, _write_video)
    return folder / "clip" / "videos" / "0000.mp4"


def _write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)


def endless_batches(source: Source, batch: int) -> Iterator[list[np.ndarray]]:
    """Batches of the frames of a source, which is repeated indefinitely."""
    frames = chain.from_iterable(source.frames() for _ in repeat(None))
    while True:
        yield [frame.image for frame in islice(frames, batch)]


def config_hash(config: Config) -> str:
    """The first 12 hexadecimal digits of a SHA-256 of the config sections used by inference."""
    values = config_to_dict(config)
    used = {key: values[key] for key in ("model", "input", "inference", "tracking")}
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]


def weights_hash(path: Path) -> str:
    """The first 12 hexadecimal digits of a SHA-256 of the tensors in a weights file.

    The hash of the file would differ between equal files, as safetensors does not sort metadata.
    """
    _, weights = load_weights(path)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
