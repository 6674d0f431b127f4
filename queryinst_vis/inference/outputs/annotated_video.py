"""The video with its tracks drawn on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from queryinst_vis.drawing import Overlay, mark_damaged
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.video.audio import SourceAudio, open_audio
from queryinst_vis.video.writer import VideoWriter


class VideoOutput:
    """Encodes pictures with the times of the source's frames."""

    def __init__(
        self,
        context: OutputContext,
        path: Path,
        *,
        crf: int = 20,
        audio: SourceAudio | None = None,
    ) -> None:
        source = context.source
        self._has_times = source.fps is None
        self._first: float | None = None
        self._audio = audio
        self._writer = context.stack.enter_context(
            VideoWriter(
                path,
                source.fps,
                crf,
                pixel_aspect=source.pixel_aspect,
                is_endless=source.is_live,
                audio=audio,
            )
        )

    def encode(self, picture: np.ndarray, seconds: float | None) -> None:
        """Append a picture, ``(H, W, 3)`` uint8 RGB, of a frame that is shown at this time."""
        self._first = seconds if self._first is None else self._first
        if self._audio is not None and self._audio.start is None:
            self._audio.start = seconds
        shown = None
        if self._has_times and seconds is not None and self._first is not None:
            shown = seconds - self._first
        self._writer.write(picture, shown)


class AnnotatedVideo(VideoOutput):
    """Draws the tracks on every frame, and encodes them with the source's sound."""

    def __init__(self, context: OutputContext, path: Path) -> None:
        source = context.source
        audio = None if source.is_live else open_audio(source.path)
        super().__init__(context, path, audio=audio)
        self._overlay = Overlay(context.class_names, style=context.style)

    def write(self, found: FrameResult) -> None:
        """Draw and encode the next frame."""
        scene = self._overlay.draw(found.frame, found.detections)
        if found.detections.of_damaged_frame:
            scene = mark_damaged(scene, found.index)
        self.encode(scene, found.seconds)

    def finish(self, tracks: TrackStore) -> None:
        """Write nothing more: the encoder is closed with the run."""
