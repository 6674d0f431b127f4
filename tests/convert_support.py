"""Helpers for the tests of the converters: write tiny frames, read back masks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle
from queryinst_vis.utils.images import read_image

HEIGHT, WIDTH = 24, 32


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A filled rectangle as a mask; ends exclusive."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def write_frame(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def write_photo(path: Path, orientation: int, shown: np.ndarray, stored: bool = False) -> None:
    """A JPEG, white where ``shown`` and black elsewhere, of an EXIF orientation.

    ``shown`` are pixels of the upright image, or else of the ``stored`` one.
    """
    picture = Image.fromarray(shown.astype(np.uint8) * 255)
    if orientation != 1 and not stored:
        picture = picture.transpose(BACK[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, exif=exif, quality=100)


BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright image is stored for each orientation."""


def assert_shows(path: Path, mask: np.ndarray) -> None:
    """A photo of ``write_photo``, read for annotations of the mask's size, is white under it."""
    height, width = mask.shape
    assert ((read_image(path, (height, width))[..., 0] > 127) == mask).all()


def read_tracks(path: Path) -> tuple[list[dict], dict[tuple[str, int], list]]:
    """The videos of a set; and masks (None where absent) by class name and number of the track.

    Tracks of one class are numbered from 0 through the file, in its order.
    """
    content = json.loads(path.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    tracks: dict[tuple[str, int], list] = {}
    for track in content["annotations"]:
        name = names[track["category_id"]]
        number = sum(key[0] == name for key in tracks)
        masks = [None if rle is None else decode_rle(rle) for rle in track["segmentations"]]
        tracks[name, number] = masks
        assert track["areas"] == [None if mask is None else mask.sum() for mask in masks]
    return content["videos"], tracks


def assert_same_masks(found: list, expected: list) -> None:
    """Both show something in the same frames, and there the same pixels."""
    assert [mask is None for mask in found] == [mask is None for mask in expected]
    for mask, wanted in zip(found, expected, strict=True):
        assert mask is None or np.array_equal(mask, wanted)


def refusal(convert, *arguments, **options) -> str:
    """The one-line InputError that a converter must raise."""
    with pytest.raises(InputError) as error:
        convert(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def run_convert(*words: object) -> int:
    return cli.main(["convert-dataset", *map(str, words)])


def reading(convert, folder: Path):
    """Converts ``folder/data``; gives the videos and the masks of the result."""

    def convert_and_read(**options):
        convert(folder / "data", folder / "set.json", **options)
        return read_tracks(folder / "set.json")

    return convert_and_read


def refusing(convert, folder: Path):
    """Converts ``folder/data``, which must be refused and leave nothing; gives the message."""

    def convert_and_read() -> str:
        message = refusal(convert, folder / "data", folder / "set.json")
        assert not (folder / "set.json").exists()
        return message

    return convert_and_read
