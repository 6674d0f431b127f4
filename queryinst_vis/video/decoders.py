"""Alternative video decoders to PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from queryinst_vis.errors import InputError, first_line
from queryinst_vis.video.container import open_video

PYAV = "pyav"
"""The default, with support for all formats, damaged files, HDR and orientations."""

_CHUNK = 16  # frames decoded together
_MAX_DIFFERENCE = 2.0  # mean pixel difference (0..255) explained by rounding in decoders
_NOT_BY_DECORD = ("mpegts", "mpeg")  # decord returns wrong frames or none


class FrameAccess(Protocol):
    """A file with random access to frames."""

    def __len__(self) -> int:
        """The number of frames."""

    def read(self, numbers: list[int]) -> np.ndarray:
        """``(N, H, W, 3)`` uint8 RGB."""


class DecordFile:
    """A file decoded by ``decord2``."""

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise _missing("decord", "decord2") from error
        with open_video(path) as (container, _):
            if container.format.name in _NOT_BY_DECORD:
                raise InputError(
                    f"video {path}: decord reads wrong or no frames from {container.format.name} "
                    "files; use --decoder pyav"
                )
        try:
            self._reader = decord.VideoReader(str(path.resolve()), num_threads=0)
        except Exception as error:  # decord's own class; some versions raise RuntimeError
            raise _unreadable(path, "decord", error) from error

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, numbers: list[int]) -> np.ndarray:
        """The frames; seeking drops the frames that decord decodes ahead without limit."""
        frames = self._reader.get_batch(numbers).asnumpy()
        self._reader.seek(0)
        return frames


class TorchCodecFile:
    """A file decoded by ``torchcodec``, on the GPU if available."""

    def __init__(self, path: Path) -> None:
        try:
            import torch
            from torchcodec.decoders import VideoDecoder
        except (ImportError, OSError, RuntimeError) as error:
            raise _missing("torchcodec", "torchcodec") from error
        try:
            self._decoder = VideoDecoder(
                str(path.resolve()),
                dimension_order="NHWC",
                seek_mode="exact",
                device="cuda" if torch.cuda.is_available() else "cpu",
            )
        except (RuntimeError, ValueError) as error:
            raise _unreadable(path, "torchcodec", error) from error

    def __len__(self) -> int:
        return len(self._decoder)

    def read(self, numbers: list[int]) -> np.ndarray:
        """The frames, in CPU memory."""
        return self._decoder.get_frames_at(indices=numbers).data.cpu().numpy()


DECODERS: Mapping[str, Callable[[Path], FrameAccess]] = {
    "decord": DecordFile,
    "torchcodec": TorchCodecFile,
}
"""Decoders other than PyAV, by name."""


def open_decoder(name: str, path: Path, frames: int, first: np.ndarray) -> FrameAccess:
    """Open a file with another decoder, and check that its frames match PyAV's.

    Args:
        name: one of ``DECODERS``.
        path: the video.
        frames: number of frames.
        first: the first one, ``(H, W, 3)`` uint8 RGB.

    Raises:
        InputError: no such decoder, it is not installed, or its frames differ.
    """
    if name not in DECODERS:
        raise InputError(f"decoder '{name}': choose one of {', '.join([PYAV, *DECODERS])}")
    opened = DECODERS[name](path)
    if len(opened) != frames:
        raise InputError(
            f"video {path}: {name} returns {len(opened)} instead of {frames} frames; use "
            f"--decoder {PYAV}"
        )
    [other] = opened.read([0])
    if other.shape != first.shape or np.abs(other.astype(int) - first).mean() > _MAX_DIFFERENCE:
        raise InputError(
            f"video {path}: {name} returns different frames (orientation, HDR etc. are supported "
            f"only by {PYAV}); use --decoder {PYAV}"
        )
    return opened


def read_in_chunks(decoder: FrameAccess, numbers: range) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(number, frame)`` with only a few frames in memory."""
    for start in range(0, len(numbers), _CHUNK):
        chunk = list(numbers[start : start + _CHUNK])
        yield from zip(chunk, decoder.read(chunk), strict=True)


def _missing(name: str, package: str) -> InputError:
    what = " and the shared libraries of FFmpeg" if name == "torchcodec" else ""
    return InputError(
        f"decoder {name}: needs the package {package}{what}; pip install 'queryinst-vis[{name}]'"
    )


def _unreadable(path: Path, name: str, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(f"video {path}: {name} cannot read it ({reason}); use --decoder {PYAV}")
