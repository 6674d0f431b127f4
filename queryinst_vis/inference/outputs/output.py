"""What every output of tracking is: told of each frame in turn, and of all tracks at the end."""

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
    """Writes one kind of file. Its memory must not grow with the video."""

    def write(self, found: FrameResult) -> None:
        """Take the next frame; frames come in order, at least one."""

    def finish(self, tracks: TrackStore) -> None:
        """Complete the file, once all frames were taken and are in ``tracks``."""


@dataclass(frozen=True)
class OutputContext:
    """What outputs know of a run before its first frame.

    Attributes:
        class_names: names of the labels; a detector may add to them while it runs.
        source: what the frames are of.
        origin: note on the source, by which a later run recognises its own files.
        run: what the run was asked for.
        style: what is drawn of an instance.
        encoder: of videos, of ``video.encoders.ENCODERS``.
        stack: closes, when the run ends or breaks off, what an output enters into it.
        stages: gives the seconds that each stage has taken so far, and the ``total``.
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
        """What files say of the video."""
        return VideoInfo(self.source.name, self.source.fps, list(self.class_names))


class OutputKind(NamedTuple):
    """One line of the table of outputs.

    Attributes:
        open: makes the output, given the context and the path of each file to write, in the order
            of ``files``. The paths are temporary: all files of a run get their names together.
        files: names of the files; ``{name}`` stands for the name of the source, and a slash at
            the end makes it a folder, which the output fills.
        about: what they are, in a few words.
    """

    open: Callable[..., Output]
    files: tuple[str, ...]
    about: str
