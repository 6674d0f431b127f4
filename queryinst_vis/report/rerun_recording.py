"""A tracked video as a recording for the Rerun Viewer."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.utils.images import encode_jpeg
from queryinst_vis.utils.palette import track_colour

_QUALITY = 90  # of JPEG
_ANALYTICS = "FORCE_RERUN_ANALYTICS"  # forces Rerun to send analytics, regardless of other settings
_MOST_IDS = 65535  # of a uint16 mask; 0 is the background


class RerunRecording:
    """``track --save rrd``: frames as JPEG, masks and boxes, on timelines of frames and seconds.

    The class id of a mask or box is its track id plus 1, with the track's colour; ids beyond 65534
    wrap around to 1. Rerun's analytics are disabled.

    Raises:
        InputError: rerun-sdk is not installed.
    """

    def __init__(self, context: OutputContext, path: Path) -> None:
        self._rerun = import_rerun()
        self._class_names = context.class_names
        self._stream = self._rerun.RecordingStream("queryinst-vis")
        self._stream.save(path)
        context.stack.callback(self._stream.disconnect)

    def write(self, found: FrameResult) -> None:
        """Log the next frame."""
        rerun, stream, detections = self._rerun, self._stream, found.detections
        stream.set_time("frame", sequence=found.index)
        if found.seconds is not None:
            stream.set_time("time", duration=found.seconds)
        jpeg = encode_jpeg(found.frame, _QUALITY)
        image = rerun.EncodedImage(contents=jpeg, media_type="image/jpeg")
        stream.log("video", image)
        ids = [] if detections.track_ids is None else detections.track_ids.tolist()
        classes = [_class_id(track_id) for track_id in ids]
        names = [self._class_names[label] for label in detections.labels.tolist()]
        rows = zip(ids, names, detections.scores.tolist(), strict=True)
        boxes = rerun.Boxes2D(
            array=detections.boxes.reshape(-1, 4).numpy(),
            array_format=rerun.Box2DFormat.XYXY,
            class_ids=classes,
            labels=[f"#{track_id} {name} {score:.2f}" for track_id, name, score in rows],
        )
        stream.log("video/boxes", boxes)
        if detections.has_masks:
            labels = np.zeros(found.frame.shape[:2], np.uint16)
            for class_id, mask in zip(classes, detections.instance_masks(), strict=True):
                pixels, x, y = mask.region
                height, width = pixels.shape
                labels[y : y + height, x : x + width][pixels] = class_id
            stream.log("video/masks", rerun.SegmentationImage(labels))

    def finish(self, tracks: TrackStore) -> None:
        """Write labels and colours of the class ids, and close the file."""
        context = [
            self._rerun.AnnotationInfo(
                id=_class_id(track.track_id),
                label=f"#{track.track_id} {self._class_names[track.label]}",
                color=track_colour(track.track_id),
            )
            for track in tracks
        ]
        self._stream.log("video", self._rerun.AnnotationContext(context), static=True)
        self._stream.disconnect()


def import_rerun() -> ModuleType:
    """Import the package ``rerun`` with analytics disabled.

    Raises:
        InputError: it is not installed.
    """
    os.environ.pop(_ANALYTICS, None)
    try:
        import rerun
    except ImportError as error:
        raise InputError(
            f"recordings for Rerun need the package rerun-sdk ({error}): "
            "pip install 'queryinst-vis[rerun]'"
        ) from error
    module: ModuleType = rerun
    return module


def _class_id(track_id: int) -> int:
    return track_id % (_MOST_IDS - 1) + 1
