"""Results of tracking for a frame and for a video."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from queryinst_vis.drawing import mark_damaged
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.masks import RLE, InstanceMask, MaskRegion
from queryinst_vis.structures import Detections
from queryinst_vis.structures.notebook import as_html, as_png
from queryinst_vis.utils.device import plain_defaults

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv
    from PIL import Image


@dataclass(frozen=True, eq=False, repr=False)
class FrameResult:
    """A frame and its detections.

    Attributes:
        frame: ``(H, W, 3)`` uint8 RGB.
        index: frame number in the video, from 0.
        seconds: time of the frame; None if unknown.
        detections: as from ``VideoTracker.update``.
        detected: all detections of the frame, of any class, also those without a track; None:
            unknown.

    Example::

        for result in queryinst_vis.track("street.mp4"):
            print(f"{result.seconds:.2f} s: {len(result.detections)} instances")
            result.plot().save(f"frame{result.index}.png")
    """

    frame: np.ndarray
    index: int
    seconds: float | None
    detections: Detections
    detected: Detections | None = None

    @property
    def class_names(self) -> list[str]:
        """Names of the labels; empty if unknown."""
        return self.detections.class_names or []

    def to_supervision(self, masks: bool = True) -> sv.Detections:
        """See ``Detections.to_supervision``."""
        return self.detections.to_supervision(masks)

    def to_dataframe(self) -> pd.DataFrame:
        """Like ``Detections.to_dataframe``, with columns ``frame`` (``index``) and ``seconds``.

        ``pandas.concat(result.to_dataframe() for result in tracker.track("street.mp4"))`` is the
        table of a video.
        """
        table = self.detections.to_dataframe()
        seconds = math.nan if self.seconds is None else self.seconds
        table.insert(0, "frame", np.full(len(table), self.index))
        table.insert(1, "seconds", np.full(len(table), seconds, dtype=float))
        return table

    def plot(self) -> Image.Image:
        """The annotated frame, as from ``Detections.plot``.

        A damaged frame has a red border and a text.
        """
        if not self.detections.of_damaged_frame:
            return self.detections.plot(self.frame)
        from PIL import Image

        return Image.fromarray(mark_damaged(self.frame, self.index))

    def crops(self) -> list[Image.Image]:
        """Crop of each box, see ``Detections.crops``."""
        return self.detections.crops(self.frame)

    def __repr__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:.2f} s"
        return f"FrameResult(frame {self.index}{when}: {self.detections!r})"

    def _repr_png_(self) -> bytes:
        return as_png(self.plot())

    def _repr_html_(self) -> str:
        return as_html(self.plot(), self.detections.columns(), repr(self))


class VideoResults(Iterator[FrameResult]):
    """Iterator over the results of a video, frame by frame; can be iterated once.

    Args:
        results: the results, frame by frame.
        length: total number of frames; None if unknown.
    """

    def __init__(self, results: Generator[FrameResult, None, None], length: int | None) -> None:
        self._results = results
        self._length = length

    def __next__(self) -> FrameResult:
        return next(self._results)

    def __len__(self) -> int:
        """The total number of frames, including those already iterated.

        Raises:
            TypeError: it is unknown, e.g. for live sources.
        """
        if self._length is None:
            raise TypeError("the number of frames of this source is unknown")
        return self._length

    def close(self) -> None:
        """Stop decoding and close the source."""
        self._results.close()


@plain_defaults()
def nothing_found(image: np.ndarray) -> Detections:
    """Empty tracked detections, for a damaged frame."""
    none = torch.zeros(0, dtype=torch.int64)
    return Detections(
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        labels=none,
        image_size=(image.shape[0], image.shape[1]),
        mask_logits=torch.zeros(0, 28, 28),
        track_ids=none,
        of_damaged_frame=True,
    )


def store(
    tracks: TrackStore,
    detections: Detections,
    time: float | None = None,
    number: int | None = None,
) -> None:
    """Append a frame's tracked detections to the tracks of the video.

    If the detector returns only boxes, they are used as masks.

    Args:
        tracks: tracks of the previous frames.
        detections: with ``track_ids``.
        time: time of the frame in seconds; None if unknown.
        number: frame number in the video file; None: the number of previous frames.

    Raises:
        ValueError: the detections have no ``track_ids``.
        InputError: the folder for temporary files is full.
    """
    if detections.track_ids is None:
        raise ValueError("only tracked detections can be stored: these have no track_ids")
    tracks.add(
        detections.image_size,
        detections.track_ids.tolist(),
        detections.scores.tolist(),
        detections.labels.tolist(),
        detections.boxes.tolist(),
        masks_or_boxes(detections),
        time,
        number,
        detections.of_damaged_frame,
    )


def masks_or_boxes(detections: Detections) -> list[RLE]:
    """The masks as N RLEs; without masks the boxes, clipped to the frame, empty outside of it."""
    if detections.has_masks:
        return detections.rles()
    height, width = detections.image_size
    masks = []
    for box in detections.boxes.round().long().tolist():
        x0, x1 = (min(max(side, 0), width) for side in box[0::2])
        y0, y1 = (min(max(side, 0), height) for side in box[1::2])
        region = MaskRegion(np.ones((max(0, y1 - y0), max(0, x1 - x0)), dtype=bool), x0, y0)
        masks.append(InstanceMask((height, width), region).rle)
    return masks
