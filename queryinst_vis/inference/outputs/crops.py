"""The best crops of each track."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.utils.images import encode_jpeg

CROPS_PER_TRACK = 5

_APART = 15  # minimum number of frames between two crops of a track
_MARGIN = 0.1  # on each side, as a fraction of the box size
_SMALLEST = 8  # minimum side of a crop in pixels
_LOOKED_AT = 96  # longer side in pixels at which sharpness is measured
_REMEMBERED = 4096  # tracks whose crops may still be replaced; bounds the memory


class _Crop(NamedTuple):
    quality: float
    frame: int
    path: Path


class Crops:
    """Writes the ``CROPS_PER_TRACK`` best crops of each track as JPEGs to a folder.

    File names are ``track0003_frame000120.jpg``, with the frame number in the source. Quality is
    the product of score, sharpness and the square root of the area; crops of a track are at least
    ``_APART`` frames apart.
    """

    def __init__(self, context: OutputContext, folder: Path) -> None:
        self._folder = folder
        self._kept: OrderedDict[int, list[_Crop]] = OrderedDict()

    def write(self, found: FrameResult) -> None:
        """Keep the crops that are better than previous ones."""
        detections = found.detections
        if detections.track_ids is None:
            return
        rows = zip(
            detections.track_ids.tolist(),
            detections.scores.tolist(),
            detections.boxes.tolist(),
            strict=True,
        )
        for track_id, score, box in rows:
            x0, y0, x1, y1 = _with_margin(box, found.frame)
            if min(x1 - x0, y1 - y0) >= _SMALLEST:
                self._offer(track_id, score, found.frame[y0:y1, x0:x1], found.index)

    def finish(self, tracks: TrackStore) -> None:
        """Do nothing: the crops are already written."""

    def best(self) -> dict[int, list[tuple[int, Path]]]:
        """``(frame number, path)`` of the crops of each track, best first."""
        return {
            track_id: [(crop.frame, crop.path) for crop in sorted(kept, reverse=True)]
            for track_id, kept in self._kept.items()
        }

    def _offer(self, track_id: int, score: float, picture: np.ndarray, frame: int) -> None:
        kept = self._kept.setdefault(track_id, [])
        self._kept.move_to_end(track_id)
        if len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)
        near = [crop for crop in kept if frame - crop.frame < _APART]
        rival = near[0] if near else min(kept) if len(kept) == CROPS_PER_TRACK else None
        quality = score * _sharpness(picture) * picture.shape[0] ** 0.5 * picture.shape[1] ** 0.5
        if rival is not None:
            if quality <= rival.quality:
                return
            kept.remove(rival)
            rival.path.unlink()
        path = self._folder / f"track{track_id:04d}_frame{frame:06d}.jpg"
        path.write_bytes(encode_jpeg(picture, 92))
        kept.append(_Crop(quality, frame, path))


def _with_margin(box: list[float], frame: np.ndarray) -> tuple[int, int, int, int]:
    """The box with a margin, clipped to the frame, in integer pixels."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = box
    dx, dy = _MARGIN * (x1 - x0), _MARGIN * (y1 - y0)
    left, right = (int(min(max(side, 0), width)) for side in (x0 - dx, x1 + dx))
    top, bottom = (int(min(max(side, 0), height)) for side in (y0 - dy, y1 + dy))
    return left, top, right, bottom


def _sharpness(picture: np.ndarray) -> float:
    """Standard deviation of the Laplacian, at a common image size."""
    height, width = picture.shape[:2]
    shrink = min(1.0, _LOOKED_AT / max(height, width))
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std()) + 1.0  # +1: flat crops differ by size
