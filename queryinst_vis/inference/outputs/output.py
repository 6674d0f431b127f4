"""The interface of outputs: receives each frame in order, and all tracks at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from queryinst_vis.drawing import DrawingStyle
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.inference.outputs.run_file import RunSettings
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.video.source import Source


class Output(Protocol):
    """Writer of one kind of output. Memory must not grow with the length of the video."""

    def write(self, found: FrameResult) -> None:
        """Process the next frame; frames come in order, at least one."""

    def finish(self, tracks: TrackStore) -> None:
        """Complete the files after the last frame; ``tracks`` contains all frames."""


@dataclass(frozen=True)
class OutputContext:
    """Properties of a run that are known before its first frame.

    Attributes:
        class_names: names of the labels; may grow while a detector runs.
        source: the video.
        origin: hash of the source's origin, by which a later run recognises its own files.
        run: the settings to record.
        style: what is drawn for each instance.
        encoder: video encoder, as for ``VideoWriter``.
        stack: for resources of outputs; closed when the run ends or fails.
        stages: returns the seconds spent in each stage so far, and the ``total``.
    """

    class_names: list[str]
    source: Source
    origin: str
    run: RunSettings
    style: DrawingStyle
    encoder: str
    stack: ExitStack
    stages: Callable[[], Mapping[str, float]]

    @property
    def video(self) -> VideoInfo:
        """Properties of the video for file headers."""
        return VideoInfo(self.source.name, self.source.fps, list(self.class_names))


class OutputKind(NamedTuple):
    """A kind of output.

    Attributes:
        open: creates the output from the context and the path of each file, in the order of
            ``files``. The paths are temporary: all files of a run are published together.
        files: file names, in which ``{name}`` is the name of the source; a trailing slash makes it
            a folder.
        about: short description.
    """

    open: Callable[..., Output]
    files: tuple[str, ...]
    about: str
