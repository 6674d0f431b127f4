"""A luma matte of all instances, for video editing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.annotated_video import VideoOutput
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult

_CRF = 8  # keeps edges sharp


class Mattes(VideoOutput):
    """A video that is white where an instance is and black elsewhere, with the source's timing.

    For detections without masks, boxes are filled.
    """

    def __init__(self, context: OutputContext, path: Path) -> None:
        super().__init__(context, path, crf=_CRF)

    def write(self, found: FrameResult) -> None:
        """Encode the matte of the next frame."""
        detections = found.detections
        matte = np.zeros(found.frame.shape[:2], dtype=np.uint8)
        if detections.has_masks:
            for mask in detections.instance_masks():
                pixels, x, y = mask.region
                matte[y : y + pixels.shape[0], x : x + pixels.shape[1]][pixels] = 255
        else:
            for x0, y0, x1, y1 in detections.boxes.round().long().clamp(min=0).tolist():
                matte[y0:y1, x0:x1] = 255
        self.encode(np.repeat(matte[..., None], 3, axis=2), found.seconds)

    def finish(self, tracks: TrackStore) -> None:
        """Do nothing: the encoder is closed with the run."""
