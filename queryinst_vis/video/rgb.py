"""Conversion of decoded frames to upright RGB arrays."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
from av.buffer import Buffer
from av.video.reformatter import VideoReformatter

from queryinst_vis.errors import InputError
from queryinst_vis.video.container import reason
from queryinst_vis.video.tone_map import ToneMap, needs_tone_map


class RgbConverter:
    """Converts the frames of one video to ``(H, W, 3)`` uint8 RGB, upright and of constant size.

    The first frame determines the size (some streams change it), the display
    matrix (one of eight orientations) and the colours. HDR is tone-mapped. Matrices and ranges
    are FFmpeg's; an unspecified matrix means BT.601, as in FFmpeg.

    Not thread-safe.

    Args:
        first: the first decodable frame of the video.
        where: names the video in errors.

    Attributes:
        height, width: of the upright arrays, in pixels.

    Raises:
        InputError: the pixel format cannot be converted.
    """

    def __init__(self, first: av.VideoFrame, where: str) -> None:
        self._stored = (first.width, first.height)
        self._is_transposed, self._flips = _orientation(first)
        self._where = where
        self._reformatter = VideoReformatter()
        self._tone_map: ToneMap | None = None
        if needs_tone_map(first):
            try:
                self._tone_map = ToneMap(first)
            except av.FFmpegError as error:
                raise self._unknown(first, error) from error
        self.height, self.width = self(first).shape[:2]

    def upright_aspect(self, pixel_aspect: Fraction) -> Fraction:
        """Pixel aspect ratio (width / height) of the upright frame, from the stored one."""
        return 1 / pixel_aspect if self._is_transposed else pixel_aspect

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to a new array.

        Raises:
            InputError: its pixel format cannot be converted.
        """
        try:
            if self._tone_map is not None:
                frame = self._tone_map(frame)
            pixels = self._reformatter.reformat(frame, *self._stored, format="rgb24").to_ndarray()
        except av.FFmpegError as error:
            raise self._unknown(frame, error) from error
        if self._is_transposed:
            pixels = pixels.transpose(1, 0, 2)
        return np.ascontiguousarray(pixels[self._flips])

    def _unknown(self, frame: av.VideoFrame, error: av.FFmpegError) -> InputError:
        return InputError(
            f"{self._where}: its pictures ({frame.format.name}, matrix {int(frame.colorspace)}) "
            f"cannot be converted to RGB ({reason(error)}); convert the video with ffmpeg"
        )


def _orientation(frame: av.VideoFrame) -> tuple[bool, tuple[slice, slice]]:
    """``(transpose, flips)`` to make a frame upright, in this order.

    The display matrix (a b u; c d v; x y w) maps a stored pixel to (a x + c y, b x + d y) (ISO
    14496-12, 8.3.2). Angles are rounded to multiples of 90 degrees; zero matrices are ignored.
    """
    side_data: Mapping[str, object] = frame.side_data
    data = side_data.get("DISPLAYMATRIX")
    forward, backward = slice(None), slice(None, None, -1)
    if not isinstance(data, Buffer):
        return False, (forward, forward)
    matrix = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].astype(np.int64)
    is_transposed = bool(np.abs(np.diag(matrix)).sum() < np.abs(np.diag(matrix[::-1])).sum())
    along_x = matrix[1, 0] if is_transposed else matrix[0, 0]
    along_y = matrix[0, 1] if is_transposed else matrix[1, 1]
    return is_transposed, (
        backward if along_y < 0 else forward,
        backward if along_x < 0 else forward,
    )
