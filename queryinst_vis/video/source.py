"""Sources of frames with a common interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from glob import has_magic
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from queryinst_vis.errors import InputError
from queryinst_vis.video.arrays import Arrays, ArraySource
from queryinst_vis.video.decoders import PYAV
from queryinst_vis.video.frames import ALL_FRAMES, Frame, Selection
from queryinst_vis.video.http import has_length, is_http, origin_of
from queryinst_vis.video.image_sequence import ImageSequence, images_in, images_of_glob, is_image
from queryinst_vis.video.live_source import LiveSource
from queryinst_vis.video.pipe import STDIN, STDIN_PATH, PipeSource
from queryinst_vis.video.random_access import RandomAccess
from queryinst_vis.video.reader import VideoReader


@runtime_checkable
class Source(Protocol):
    """A source of frames.

    Attributes:
        name: short name, valid as a file name: ``street`` for ``street.mp4``.
        origin: identifier of the source: an absolute path, or a URL without its secrets.
        fps: constant frame rate of ``frames``, after applying a stride; None: frames have
            individual times.
        is_live: always yields the newest frame, and has no length.
        pixel_aspect: pixel aspect ratio, width / height.
        path: video file with the audio of the frames; None without a file.
        fault: why a network source ended unexpectedly, known after the last frame; or None.
    """

    name: str

    @property
    def origin(self) -> str:
        """Identifier of the source."""

    @property
    def fps(self) -> float | None:
        """Constant frame rate; None if frames have individual times."""

    @property
    def is_live(self) -> bool:
        """Whether frames are dropped if they are not processed in time."""

    @property
    def pixel_aspect(self) -> Fraction:
        """Pixel aspect ratio, width / height."""

    @property
    def path(self) -> Path | None:
        """The video file."""

    @property
    def fault(self) -> str | None:
        """Why the source ended unexpectedly."""

    def __len__(self) -> int:
        """The number of frames; raises ``TypeError`` if it is unknown."""

    def frames(self) -> Iterator[Frame]:
        """The frames, in order."""


SourceLike: TypeAlias = "str | Path | int | np.ndarray | Image.Image | Arrays | Source"
"""The sources accepted by ``open_source``."""


class VideoFile:
    """A recording: a video file, local or downloaded from a URL.

    Args:
        source: path or URL.
        selection: the selected frames.
        name: None: the file name without suffix.
        strict, allow_partial, decoder: as for ``VideoReader``.

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
        name: str | None = None,
        strict: bool = False,
        allow_partial: bool = False,
        decoder: str = PYAV,
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
            decoder=decoder,
        )
        self.path: Path | None = self._reader.path
        self.name = name or self._reader.path.stem
        self.origin = origin_of(source)
        self.fps = None if self._reader.is_variable else self._reader.fps
        self.pixel_aspect = self._reader.pixel_aspect

    def __len__(self) -> int:
        return len(self._reader)

    def frames(self) -> Iterator[Frame]:
        """As ``VideoReader.frames``."""
        return self._reader.frames()

    def seconds(self) -> np.ndarray:
        """As ``VideoReader.seconds``."""
        return self._reader.seconds()

    def key_frames(self) -> list[int]:
        """As ``VideoReader.key_frames``."""
        return self._reader.key_frames()

    def random_access(self) -> RandomAccess:
        """As ``VideoReader.random_access``."""
        return self._reader.random_access()


def open_source(
    source: SourceLike,
    selection: Selection = ALL_FRAMES,
    *,
    live: bool = False,
    decoder: str = PYAV,
    bgr: bool = False,
    fps: float | None = None,
    strict: bool = False,
    allow_partial: bool = False,
) -> Source:
    """Open a source of frames.

    Args:
        source: one of

            * a video file;
            * a folder of frames, a glob (``"frames/*.png"``), a list of paths, or one image, in
              natural order: ``frame2`` before ``frame10``;
            * a list of ``(H, W, 3)`` uint8 arrays or PIL images, a ``(T, H, W, 3)`` array, or an
              iterator of such images;
            * the number of a camera (``0``), or its device;
            * a URL: ``rtsp://``, ``rtmp://``, ``udp://`` and ``tcp://`` are live; an ``http(s)://``
              response with a length is a recording, which is downloaded first, otherwise live;
            * ``"-"``: standard input;
            * an open source, which is returned.
        selection: the selected frames.
        live: always yield the newest frame, and drop those that arrived in between.
        bgr: whether the channels of arrays are BGR, as in OpenCV.
        fps: frame rate of images and arrays; None: 25.
        strict, allow_partial, decoder: as for ``VideoReader``.

    Raises:
        InputError: the source cannot be opened or read, or contains no selected frame; ``bgr`` or
            ``fps`` is given for a source with its own colours or times, or another ``decoder`` for
            a source that is not a video file.
    """
    if isinstance(source, Source):
        if selection != Selection() or live or bgr or fps is not None or strict or allow_partial:
            raise InputError(
                f"{source.origin}: is open already; give its frame range and other settings to "
                "`open_source`"
            )
        return source
    opened = _open(source, selection, live, decoder, bgr, fps, strict, allow_partial)
    if decoder != PYAV and not isinstance(opened, VideoFile):
        raise InputError(f"decoder {decoder}: reads only video files")
    return opened


def _open(
    source: str | Path | int | np.ndarray | Image.Image | Arrays,
    selection: Selection,
    live: bool,
    decoder: str,
    bgr: bool,
    fps: float | None,
    strict: bool,
    allow_partial: bool,
) -> Source:
    if isinstance(source, int):
        source = str(source)
    if isinstance(source, str | Path):
        if bgr:
            raise InputError("bgr is for arrays only")
        files = None if live else _image_files(str(source))
        if files is not None:
            name, origin = _name_of(str(source), files), origin_of(source)
            return ImageSequence(files, name, origin, selection, fps=fps, strict=strict)
        if fps is not None:
            raise InputError(f"{source}: fps is for images only; a video has its own frame times")
        return _open_video(str(source), selection, live, strict, allow_partial, decoder)
    if live:
        raise InputError("images in memory are not live")
    if isinstance(source, Image.Image) or (isinstance(source, np.ndarray) and source.ndim == 3):
        source = [source]
    if isinstance(source, VideoReader) or not isinstance(source, Iterable):
        raise InputError(
            f"cannot open a {type(source).__name__}: give a file, a folder, a URL, a camera or a "
            "list of images"
        )
    if isinstance(source, Sequence) and source and all(isinstance(i, str | Path) for i in source):
        files = [Path(str(item)) for item in source]
        name, origin = files[0].absolute().parent.name or "frames", _origin_of_files(files)
        return ImageSequence(files, name, origin, selection, fps=fps, strict=strict)
    return ArraySource(source, selection, fps=fps, bgr=bgr)


def known_length(source: Source) -> int | None:
    """The number of frames; None if unknown."""
    try:
        return len(source)
    except TypeError:
        return None


def _image_files(source: str) -> list[Path] | None:
    """The files of a folder of frames, a glob or an image; None for other sources."""
    path = Path(source)
    if "://" in source:
        return None
    if path.is_dir():
        return images_in(path)
    if path.exists():
        return [path] if is_image(path) else None
    return images_of_glob(source) if has_magic(source) else None


def is_repeatable(source: Source) -> bool:
    """Whether opening the source again would give the same frames."""
    return not (source.is_live or isinstance(source, PipeSource | ArraySource))


def _is_stream(source: str) -> bool:
    """Whether this is a URL, but not of a recording."""
    return "://" in source and not (is_http(source) and has_length(source))


def _open_video(
    source: str,
    selection: Selection,
    live: bool,
    strict: bool,
    allow_partial: bool,
    decoder: str,
) -> Source:
    """Open a source that is not an image."""
    path, name = Path(source), None
    if source == STDIN:
        path, source, name = STDIN_PATH, str(STDIN_PATH), "stdin"
    elif source.isdecimal() and not path.exists():
        path, source, name = _camera(int(source)), str(_camera(int(source))), f"camera{source}"
    # checked last, since it opens a connection, and some cameras allow only one
    if live or (path.is_char_device() and path != STDIN_PATH) or _is_stream(source):
        _refuse_checks("a live source", source, strict, allow_partial)
        return LiveSource(source, selection, name)
    if (path == STDIN_PATH or path.is_fifo()) and not path.is_file():
        _refuse_checks("a pipe", source, strict, allow_partial)
        return PipeSource(path, name or path.stem, selection)
    return VideoFile(
        source,
        selection,
        name=name,
        strict=strict,
        allow_partial=allow_partial,
        decoder=decoder,
    )


def _refuse_checks(kind: str, source: str, strict: bool, allow_partial: bool) -> None:
    """Refuse options that need to know all frames in advance."""
    if strict or allow_partial:
        raise InputError(
            f"{source}: {'--strict' if strict else '--allow-partial'}: the frames of {kind} are "
            "not known in advance; save it to a file first"
        )


def _camera(number: int) -> Path:
    """The device of a camera, on Linux.

    Raises:
        InputError: there is no such device.
    """
    path = Path(f"/dev/video{number}")
    if not path.exists():
        found = ", ".join(sorted(p.name[5:] for p in Path("/dev").glob("video*"))) or "none"
        raise InputError(
            f"camera {number}: there is no {path} (cameras: {found}). On other systems than Linux, "
            "pipe the video: ffmpeg -f avfoundation -i 0 -f mpegts - | queryinst-vis track - --live"
        )
    return path


def _name_of(source: str, files: list[Path]) -> str:
    """The name of a folder of frames, of a glob's folder, or of an image."""
    path = Path(source)
    if path.is_file():
        return path.stem
    folder = path if path.is_dir() else files[0].parent
    return folder.resolve().name or "frames"


def _origin_of_files(files: list[Path]) -> str:
    names = "\n".join(str(path.absolute()) for path in files)
    digest = sha256(names.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{files[0].absolute().parent}/[{len(files)} files, {digest}]"
