"""What a benchmark runs on: weights and a video, given or made, and how to tell them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np

from queryinst_vis.benchmark.random_weights import save_random_weights
from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.data.synthetic import PRESETS, generate
from queryinst_vis.video.reader import VideoReader
from queryinst_vis.video.writer import VideoWriter


def obtain_weights(model: str | Path, overrides: list[str], seed: int, folder: Path) -> Path:
    """The weights file of a name or a path; of a config YAML random weights, in ``folder``.

    Raises:
        InputError: neither, or a config that cannot be used.
    """
    if Path(model).suffix.lower() not in (".yaml", ".yml"):
        return find_weights(model)
    path = folder / "random.safetensors"
    save_random_weights(path, model, overrides, seed)
    return path


def render_clip(size: tuple[int, int], frames: int, seed: int, folder: Path) -> Path:
    """An mp4 of moving shapes, ``size`` (width, height), in ``folder``.

    Raises:
        InputError: a size that no clip can have, or a negative seed.
    """
    clip = PRESETS["demo"].override(videos=1, frames=frames, size=size)
    generate(folder / "clip", clip, seed, _write_video)
    return folder / "clip" / "videos" / "0000.mp4"


def _write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)


def endless_batches(reader: VideoReader, batch: int) -> Iterator[list[np.ndarray]]:
    """The video's frames again and again, ``batch`` at a time and never less."""
    frames = chain.from_iterable(repeat(reader))
    while True:
        yield list(islice(frames, batch))


def config_hash(config: Config) -> str:
    """Twelve hexadecimal digits (of a SHA-256) for the sections that inference reads."""
    values = config_to_dict(config)
    read = {key: values[key] for key in ("model", "input", "inference", "tracking")}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:12]


def weights_hash(path: Path) -> str:
    """Twelve hexadecimal digits (of a SHA-256) for the tensors of a weights file, by name.

    The same tensors may be written as several files: safetensors does not order its metadata.
    """
    _, weights = load_weights(path)
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
