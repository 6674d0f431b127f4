"""The annotated video."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from queryinst_vis.drawing import Overlay, mark_damaged
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.outputs.output import OutputContext
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.utils.prefetch import OrderedWorkers, available_cores
from queryinst_vis.video.audio import SourceAudio, open_audio
from queryinst_vis.video.writer import VideoWriter

_MOST_DRAWING = 8  # drawing threads; more would wait for the GIL


class VideoOutput:
    """Encodes images with the times of the source's frames."""

    def __init__(
        self,
        context: OutputContext,
        path: Path,
        *,
        crf: int = 20,
        audio: SourceAudio | None = None,
    ) -> None:
        self._source = source = context.source
        self._has_times = source.fps is None
        self._first: float | None = None
        self._audio = audio
        self._writer = context.stack.enter_context(
            VideoWriter(
                path,
                source.fps,
                crf,
                is_endless=source.is_live,
                audio=audio,
                encoder=context.encoder,
            )
        )

    def encode(self, picture: np.ndarray | av.VideoFrame, seconds: float | None) -> None:
        """Append an image, as for ``VideoWriter.write``, to be shown at this time."""
        if self._first is None:
            self._first = seconds
            self._writer.pixel_aspect = self._source.pixel_aspect  # live: from now on
        if self._audio is not None and self._audio.start is None:
            self._audio.start = seconds
        shown = None
        if self._has_times and seconds is not None and self._first is not None:
            shown = seconds - self._first
        self._writer.write(picture, shown)


class AnnotatedVideo(VideoOutput):
    """Draws the tracks on every frame and encodes the video with the audio of the source.

    Several threads draw frames, each at most one frame ahead of the encoder, which receives them
    in order and has its own threads.
    """

    def __init__(self, context: OutputContext, path: Path) -> None:
        source = context.source
        audio = None if source.is_live else open_audio(source.path)
        super().__init__(context, path, audio=audio)
        self._overlay = Overlay(context.class_names, style=context.style)
        self._workers = OrderedWorkers(self._finish, min(available_cores(), _MOST_DRAWING))
        context.stack.callback(self._workers.close)

    def write(self, found: FrameResult) -> None:
        """Submit the next frame for drawing, and encode those that are ready."""
        self._workers.submit(partial(self._draw, found, self._overlay.plan(found.detections)))

    def finish(self, tracks: TrackStore) -> None:
        """Encode the frames that are still being drawn."""
        self._workers.drain()

    def _draw(self, found: FrameResult, draw: Callable[[np.ndarray], np.ndarray]) -> _Drawn:
        scene = draw(found.frame)
        if found.detections.of_damaged_frame:
            scene = mark_damaged(scene, found.index)
        return _Drawn(VideoWriter.convert(scene), found.seconds)

    def _finish(self, drawn: _Drawn) -> None:
        self.encode(drawn.picture, drawn.seconds)


class _Drawn(NamedTuple):
    """An image in the encoder's pixel format, and its time."""

    picture: av.VideoFrame
    seconds: float | None
