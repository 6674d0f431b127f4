"""Everything that frames come from, behind one interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from queryinst_vis.errors import InputError
from queryinst_vis.utils.prefetch import Latest
from queryinst_vis.video.frames import ALL_FRAMES, Frame, Selection
from queryinst_vis.video.http import without_secrets
from queryinst_vis.video.live import Arrival, LiveReader
from queryinst_vis.video.reader import VideoReader


@runtime_checkable
class Source(Protocol):
    """What frames come from.

    Attributes:
        name: short, suits a file name: ``street`` for ``street.mp4``.
        origin: tells sources apart: an absolute path, or an address without its secrets.
        fps: frames per second of what ``frames`` yields, so a stride lowers it; None: the frames
            have times of their own.
        is_live: always goes on with the newest frame, and has no length.
        pixel_aspect: width of a pixel by its height.
        path: the video file, whose audio belongs to the frames; None: there is none.
        fault: why a network source broke off, known after the last frame; None: it did not.
    """

    @property
    def name(self) -> str:
        """Suits a file name."""

    @property
    def origin(self) -> str:
        """What tells the source from others."""

    @property
    def fps(self) -> float | None:
        """Frames per second, if that is all there is to say of their times."""

    @property
    def is_live(self) -> bool:
        """Whether frames are dropped that nobody has time for."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel by its height."""

    @property
    def path(self) -> Path | None:
        """The video file."""

    @property
    def fault(self) -> str | None:
        """Why the source broke off."""

    def __len__(self) -> int:
        """The number of frames; ``TypeError`` where nobody knows it."""

    def frames(self) -> Iterator[Frame]:
        """The frames, in order."""


SourceLike: TypeAlias = "str | Path | Source"
"""What ``open_source`` opens."""


class VideoFile:
    """A recording: a video file, or what was downloaded from an address.

    Args:
        source: its path or address.
        selection: which frames.
        strict, allow_partial: as for ``VideoReader``.

    Raises:
        InputError: as for ``VideoReader``.
    """

    is_live = False
    fault = None

    def __init__(
        self,
        source: str | Path,
        selection: Selection,
        *,
        strict: bool = False,
        allow_partial: bool = False,
    ) -> None:
        self._reader = VideoReader(
            source,
            selection.stride,
            selection.max_frames,
            start=selection.start,
            end=selection.end,
            start_frame=selection.start_frame,
            end_frame=selection.end_frame,
            strict=strict,
            allow_partial=allow_partial,
        )
        self.path: Path | None = self._reader.path
        self.name = self._reader.path.stem
        self.origin = origin_of(source)
        self.fps = None if self._reader.is_variable else self._reader.fps
        self.pixel_aspect = self._reader.pixel_aspect

    def __len__(self) -> int:
        return len(self._reader)

    def frames(self) -> Iterator[Frame]:
        """As ``VideoReader.frames``."""
        return self._reader.frames()


class LiveSource:
    """A source whose newest frame is always the next one; what came meanwhile is dropped.

    Args:
        source: as for ``LiveReader``.
        selection: only ``max_frames`` may be set: frames that are looked at.

    Attributes:
        until: asked before every frame and while waiting for one; True ends the source.

    Raises:
        InputError: as for ``LiveReader``, or for another selection.
    """

    fps = None
    is_live = True
    pixel_aspect = Fraction(1)
    path = None

    def __init__(self, source: str | Path, selection: Selection) -> None:
        if selection != Selection(max_frames=selection.max_frames):
            raise InputError("a live source shows its newest frame: no stride, start or end")
        self.until: Callable[[], bool] = lambda: False
        self._reader = LiveReader(source)
        self._newest: Latest[Arrival] | None = None
        self._max_frames = selection.max_frames
        self.name = self._reader.name
        self.origin = origin_of(source)

    @property
    def fault(self) -> str | None:
        """Why the source broke off."""
        return self._reader.fault

    @property
    def dropped(self) -> int:
        """Frames so far that came while an earlier one was looked at, and were left out."""
        return 0 if self._newest is None else self._newest.dropped

    def __len__(self) -> int:
        raise TypeError("a live source has no length")

    def frames(self) -> Iterator[Frame]:
        """The frames that are looked at, numbered from 0.

        Their ``seconds`` are those of their arrival, on the clock of ``time.perf_counter``.
        """
        self._newest = newest = Latest(self._reader, self.until)
        for number, arrival in enumerate(islice(newest, self._max_frames)):
            yield Frame(number, arrival.seconds, arrival.rgb())


def open_source(
    source: SourceLike,
    selection: Selection = ALL_FRAMES,
    *,
    live: bool = False,
    strict: bool = False,
    allow_partial: bool = False,
) -> Source:
    """Open what frames come from.

    Args:
        source: a video file, the address of a recording or of a live stream, or an open source,
            which is returned.
        selection: which frames.
        live: go on with the newest frame always.
        strict, allow_partial: as for ``VideoReader``.

    Raises:
        InputError: it cannot be opened or read, or has no frame of the selection.
    """
    if isinstance(source, Source):
        return source
    if live:
        return LiveSource(source, selection)
    return VideoFile(source, selection, strict=strict, allow_partial=allow_partial)


def known_length(source: Source) -> int | None:
    """The number of frames, None where nobody knows it."""
    try:
        return len(source)
    except TypeError:
        return None


def origin_of(source: str | Path) -> str:
    """What tells a source from others, without passwords and tokens.

    The query of an address may say which video is meant and may hold a token: its hash stands in
    for it.
    """
    text = str(source)
    if "://" not in text:
        return str(Path(text).absolute())
    query = re.search(r"\?(.*)", text)
    mark = f"?{sha256(query[1].encode()).hexdigest()[:12]}" if query else ""
    return without_secrets(text) + mark
