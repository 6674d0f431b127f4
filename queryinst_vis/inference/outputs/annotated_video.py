"""The video with its tracks drawn on it."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.drawing import Overlay, mark_damaged
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.video.audio import open_audio
from queryinst_vis.video.writer import VideoWriter


class AnnotatedVideo:
    """Draws the tracks on every frame, and encodes them."""

    def __init__(self, context: OutputContext, path: Path) -> None:
        self._overlay = Overlay(context.class_names)
        source = context.source
        self._has_times = source.fps is None
        self._first: float | None = None
        self._audio = None if source.is_live else open_audio(source.path)
        self._writer = context.stack.enter_context(
            VideoWriter(
                path,
                source.fps,
                pixel_aspect=source.pixel_aspect,
                is_endless=source.is_live,
                audio=self._audio,
            )
        )

    def write(self, found: FrameResult) -> None:
        """Draw and encode the next frame."""
        scene = self._overlay.draw(found.frame, found.detections)
        if found.detections.of_damaged_frame:
            scene = mark_damaged(scene, found.index)
        seconds = None
        if self._has_times and found.seconds is not None:
            self._first = found.seconds if self._first is None else self._first
            seconds = found.seconds - self._first
        if self._audio is not None and self._audio.start is None:
            self._audio.start = found.seconds
        self._writer.write(scene, seconds)

    def finish(self, tracks: TrackStore) -> None:
        """Write nothing more: the encoder is closed with the run."""
