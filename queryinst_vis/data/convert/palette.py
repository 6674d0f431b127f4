"""Reading images whose values are numbers, not colours."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from queryinst_vis.errors import InputError


def read_palette_indices(source: Path | BinaryIO, where: str) -> np.ndarray:
    """``(H, W)`` uint8 palette indices of an image, or the values of a grey or binary one.

    OpenCV would look the indices up and give their colours.

    Raises:
        InputError: not readable, or of another kind; ``where`` names the image.
    """
    try:
        with Image.open(source) as image:
            mode, indices = image.mode, np.array(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: not readable as an image") from error
    if mode not in ("P", "L", "1"):
        raise InputError(f"{where}: an index map has a palette or is grey, 8 bits; this is {mode}")
    return indices.astype(np.uint8)
