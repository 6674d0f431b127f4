"""Calibration frames for int8 quantization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from queryinst_vis.config import DatasetConfig
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import sample_images
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detect_images import find_images
from queryinst_vis.utils.images import to_array
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.image_sequence import is_image
from queryinst_vis.video.source import known_length, open_source

DEFAULT_FRAMES = 100


def calibration_frames(
    sources: Sequence[str], classes: list[str], count: int = DEFAULT_FRAMES
) -> Iterator[np.ndarray]:
    """Sample frames at even intervals from sources.

    Args:
        sources: videos, images, folders or globs of images; or a COCO or YouTube-VIS file and its
            image folder.
        classes: class names of the model.
        count: maximum number of frames, distributed evenly over the sources.

    Yields:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: a source cannot be read or has no frames.
    """
    if Path(sources[0]).suffix == ".json":
        if len(sources) != 2:
            raise InputError(
                f"{sources[0]}: must be followed by the image folder of the annotations"
            )
        annotations, images = sources
        for record in sample_images(DatasetConfig(annotations, images), classes, count):
            yield load_pixels(record)
        return
    of_each = -(-count // len(sources))
    for word in sources:
        yield from _frames_of(word, of_each)


def _frames_of(word: str, count: int) -> Iterator[np.ndarray]:
    """Up to ``count`` frames of a video, or images, which may differ in size."""
    path = Path(word)
    if "://" in word or (path.is_file() and not is_image(path)):
        length = known_length(open_source(word))
        stride = 1 if length is None else -(-length // count)
        for frame in open_source(word, Selection(stride=stride, max_frames=count)).frames():
            if not frame.is_damaged:
                yield frame.image
        return
    images = find_images([word])
    for image in images[:: -(-len(images) // count)]:
        yield to_array(image)
