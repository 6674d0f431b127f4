"""Contact sheets: grids of images with captions."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path

_CAPTION_HEIGHT, _GAP = 18, 4
_MAX_SIDE = 65_500  # approximately the maximum of JPEG
_PAPER, _INK = 255, (40, 40, 40)


class ContactSheet:
    """Collects images row by row and writes them as one image.

    Args:
        columns: images per row.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._rows: list[list[np.ndarray]] = []

    def start_row(self) -> None:
        """Start a new row."""
        self._rows.append([])

    def add(self, picture: np.ndarray, caption: str) -> None:
        """Append an image.

        Args:
            picture: ``(H, W, 3)`` uint8 RGB.
            caption: one line, truncated to the width of the image.
        """
        if not self._rows or len(self._rows[-1]) == self._columns:
            self.start_row()
        self._rows[-1].append(write_caption(picture, caption))

    def write(self, path: str | Path) -> None:
        """Write the sheet atomically, as PNG or JPEG according to the suffix of ``path``.

        Raises:
            InputError: there are no images, the sheet is too large, or it cannot be written.
        """
        rows = [row for row in self._rows if row]
        if not rows:
            raise InputError(f"cannot write {path}: there is no image to show")
        heights = [max(tile.shape[0] for tile in row) for row in rows]
        width = max(sum(tile.shape[1] + _GAP for tile in row) for row in rows) + _GAP
        height = sum(heights) + _GAP * (len(rows) + 1)
        if max(height, width) > _MAX_SIDE:
            raise InputError(
                f"cannot write {path}: the sheet would have {width}x{height} pixels; show fewer "
                "videos, or fewer of their frames"
            )
        sheet = np.full((height, width, 3), _PAPER, dtype=np.uint8)
        y = _GAP
        for row, row_height in zip(rows, heights, strict=True):
            x = _GAP
            for tile in row:
                sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
                x += tile.shape[1] + _GAP
            y += row_height + _GAP
        with atomic_path(path) as temporary:
            _, encoded = cv2.imencode(temporary.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
            temporary.write_bytes(encoded.tobytes())  # cv2.imwrite hides a full disk


def write_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """The image with a line of text below it."""
    strip = np.full((_CAPTION_HEIGHT, picture.shape[1], 3), _PAPER, dtype=np.uint8)
    cv2.putText(
        strip, text, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, lineType=cv2.LINE_AA
    )  # OpenCV clips the text
    return np.vstack([picture, strip])
