"""The process that downloads and decodes one video; it does not import torch."""

from __future__ import annotations

import hashlib
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np

from queryinst_vis.batch.options import Video
from queryinst_vis.batch.processes import end_with_parent
from queryinst_vis.batch.segments import Cut, Cutting, Segment, cut_video
from queryinst_vis.batch.store import file_system_of
from queryinst_vis.errors import InputError, InputWarning, first_line
from queryinst_vis.video.frames import DamagedFramesWarning, Frame
from queryinst_vis.video.http import download, is_http, without_secrets
from queryinst_vis.video.image_sequence import ImageSequence, images_in
from queryinst_vis.video.source import Source, VideoFile, known_length, open_source

SLOTS = 8
"""Number of frames in the ring buffer in shared memory."""

Fault = Literal["input", "memory", "error"]

_BLOCK = 1 << 20  # bytes
_NO_MEMORY = (
    "cannot allocate memory",
    "insufficient memory",
    "can't allocate",
    "not enough memory",
)
"""Messages of libraries that have no exception type for it, in lower case."""


@dataclass(frozen=True)
class Opened:
    """Properties of an opened video, as for ``video.source.Source``."""

    fps: float | None
    pixel_aspect: Fraction
    path: Path | None
    length: int | None
    sha256: str
    bytes: int
    shape: tuple[int, ...]


class DecodedFrame(NamedTuple):
    """A frame in a slot of the ring buffer; ``image`` if its size differs from the first's."""

    number: int
    seconds: float | None
    is_damaged: bool
    slot: int
    image: np.ndarray | None = None


class DamagedFrames(NamedTuple):
    """The content of a ``DamagedFramesWarning``, which can be merged over segments."""

    source: str
    numbers: list[int]
    length: int
    note: str


DecodeWarning = str | DamagedFrames
"""A warning about a video, in a form that can be pickled and stored as JSON."""


class Ended(NamedTuple):
    """The final message of the process: the error, if any, and the warnings."""

    kind: Fault | None
    reason: str
    warnings: list[DecodeWarning]


def decode_video(
    video: Video,
    folder: Path,
    connection: Connection,
    memory: int | None,
    cutting: Cutting | None = None,
) -> None:
    """Send ``Opened``, a ``DecodedFrame`` per frame, and ``Ended``.

    For a long video to be cut, send ``Cut`` and ``Ended`` instead.

    The worker answers ``Opened`` with the name of the ring buffer, and returns the number of a
    slot when it can be reused.

    Args:
        video: to decode.
        folder: for downloads.
        connection: to the worker; this process exits when it is closed.
        memory: limit of allocated memory in bytes; None: no limit.
        cutting: how to cut long videos; None: decode them.
    """
    _prepare(memory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        kind: Fault | None = None
        reason = ""
        try:
            _send_frames(video, folder, connection, cutting)
        except (EOFError, ConnectionError):  # the worker has died
            return
        except MemoryError:
            kind, reason = "memory", _out_of_memory(memory)
        except InputError as error:
            kind, reason = "input", str(error).replace(str(folder), video.origin)
        except Exception as error:
            is_memory = any(words in str(error).lower() for words in _NO_MEMORY)
            kind = "memory" if is_memory else "error"
            reason = _out_of_memory(memory) if is_memory else f"{type(error).__name__}: {error}"
    messages = [
        _to_message(each.message, str(folder), video.origin)
        for each in caught
        if isinstance(each.message, InputWarning)
    ]
    connection.send(Ended(kind, " ".join(reason.split()), messages))


def _prepare(memory: int | None) -> None:
    """Limit the memory of this process, and end it with the worker."""
    end_with_parent()
    if memory is not None and sys.platform != "win32":
        import resource

        # the address space would count what threads merely reserve, 64 MiB each
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _out_of_memory(memory: int | None) -> str:
    limit = "" if memory is None else f" than the {memory / 2**30:.1f} GiB allowed"
    return f"decoding needs more memory{limit} (--decode-memory)"


def _to_message(warning: InputWarning, folder: str, origin: str) -> DecodeWarning:
    """The warning with the origin of the video instead of the path of its local copy."""
    if isinstance(warning, DamagedFramesWarning):
        source = warning.source.replace(folder, origin)
        return DamagedFrames(source, warning.numbers, warning.length, warning.note)
    return str(warning).replace(folder, origin)


def _send_frames(
    video: Video, folder: Path, connection: Connection, cutting: Cutting | None
) -> None:
    path = _local_path(video, folder)
    size, checksum = (
        _checksum(path) if video.part is None else _known_checksum(path, video.part.cut)
    )
    source = _open(video, path)
    segments = () if cutting is None else _segments(source, video, cutting)
    if len(segments) > 1:
        connection.send(Cut(segments, size, checksum))
        return
    frames = source.frames()
    first = next(frames, None)
    if first is None:
        raise InputError(f"video {video.origin}: has no frame")
    connection.send(_opened(source, first.image.shape, size, checksum))
    ring = SharedMemory(connection.recv())
    ring.unlink()  # both processes have mapped it: killing them frees it, too
    try:
        slots = slots_of(ring, first.image.shape).reshape(SLOTS, -1)
        _fill(slots, first, frames, connection)
        del slots
    finally:
        ring.close()


def _open(video: Video, path: Path) -> Source:
    options = video.options
    source = open_source(
        str(path),
        video.selection,
        decoder=options.decoder,
        fps=options.fps,
        strict=options.strict,
        allow_partial=options.allow_partial,
    )
    if source.is_live:
        raise InputError(f"video {video.origin}: is live; follow it with 'track --live'")
    return source


def _segments(source: Source, video: Video, cutting: Cutting) -> tuple[Segment, ...]:
    """The segments of a video; warns if a long one cannot be cut."""
    if not isinstance(source, VideoFile | ImageSequence):
        return ()
    seconds = source.seconds()
    numbers = video.selection.numbers(seconds)
    segments = cut_video(seconds, numbers, source.key_frames(), cutting)
    duration = seconds[numbers[-1]] - seconds[numbers[0]]
    if len(segments) == 1 and duration > cutting.length:
        warnings.warn(
            f"video {video.origin}: has no key frame at which it can be cut, and was tracked as a "
            f"whole ({duration:.0f} s)",
            InputWarning,
            stacklevel=2,
        )
    return segments


def slots_of(ring: SharedMemory, shape: tuple[int, ...]) -> np.ndarray:
    """The frames of a ring buffer: ``(SLOTS, *shape)``, uint8."""
    return np.ndarray((SLOTS, *shape), np.uint8, ring.buf)


def _fill(slots: np.ndarray, first: Frame, frames: Iterator[Frame], connection: Connection) -> None:
    free = list(range(SLOTS))

    def send(frame: Frame) -> None:
        while not free or connection.poll():
            free.append(connection.recv())
        header = frame.number, frame.seconds, frame.is_damaged
        if frame.image.shape != first.image.shape:
            connection.send(DecodedFrame(*header, -1, frame.image))
            return
        slot = free.pop()
        slots[slot] = frame.image.reshape(-1)
        connection.send(DecodedFrame(*header, slot))

    send(first)
    for frame in frames:
        send(frame)


def _opened(source: Source, shape: tuple[int, ...], size: int, checksum: str) -> Opened:
    return Opened(
        source.fps, source.pixel_aspect, source.path, known_length(source), checksum, size, shape
    )


def _local_path(video: Video, folder: Path) -> Path:
    """The local path of the video, or of a copy downloaded to ``folder``."""
    if is_http(video.address):
        return download(video.address, folder, video.options.allow_partial)
    if "://" not in video.address:
        return Path(video.address)
    system, path = file_system_of(video.address)
    name = Path(unquote(urlsplit(video.address).path)).name
    try:
        with system.open_input_stream(path) as remote, (folder / name).open("wb") as file:
            shutil.copyfileobj(remote, file, _BLOCK)
    except OSError as error:
        reason = first_line(error)
        shown = without_secrets(video.address)
        raise InputError(f"video {shown}: cannot be read ({reason})") from error
    return folder / name


def _known_checksum(path: Path, cut: Cut) -> tuple[int, str]:
    """Size and checksum from the time when the video was cut.

    Raises:
        InputError: the size has changed since.
    """
    size = sum(file.stat().st_size for file in (images_in(path) if path.is_dir() else [path]))
    if size != cut.bytes:
        raise InputError(
            f"video {path}: changed from {cut.bytes} to {size} bytes while its segments were "
            "tracked; run the command again"
        )
    return size, cut.sha256


def _checksum(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, or of all images of a folder."""
    digest, size = hashlib.sha256(), 0
    try:
        for file in images_in(path) if path.is_dir() else [path]:
            with closing(file.open("rb")) as opened:
                while block := opened.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
    except OSError as error:
        raise InputError(f"video {path}: cannot be read ({error.strerror})") from error
    return size, digest.hexdigest()
