"""COCO segmentations of all kinds as compressed run lengths that nothing is wrong with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.masks.run_lengths import MAX_PIXELS, is_counts, sum_runs

RLE = dict[str, Any]
"""COCO run-length encoding: ``{"size": [height, width], "counts": str}``."""

_MAX_SIDE = 65535
_BATCH = 1 << 17
"""Characters that are decoded together: many, for numpy's sake, but they should fit a cache."""


class _UnfitError(ValueError):
    """What is wrong with a segmentation, as a phrase that follows its place."""


def to_rles(
    segmentations: Sequence[Any], height: int, width: int, where: Callable[[int], str]
) -> tuple[list[RLE], np.ndarray]:
    """Bring COCO segmentations of one frame size to RLEs that fill the frame exactly.

    Args:
        segmentations: each a list of polygons, or ``{"size", "counts"}`` with counts as a list,
            text or bytes.
        height, width: size of the frame that the masks must have, in pixels.
        where: names a segmentation by its index, for error messages.

    Returns:
        One RLE for each, and ``(N,)`` int64 their areas in pixels.

    Raises:
        InputError: a segmentation cannot be read, is of another size, or its run lengths do
            not fill the frame, with which pycocotools would run forever or read stray memory.
    """
    if segmentations and (max(height, width) > _MAX_SIDE or height * width > MAX_PIXELS):
        raise InputError(f"{where(0)}: a frame of {width}x{height} pixels is too large for masks")
    size = [height, width]
    texts = []
    for index, segmentation in enumerate(segmentations):
        try:
            # what nearly all masks are, at once
            if type(segmentation) is dict and segmentation.get("size") == size:
                counts = segmentation.get("counts")
                if type(counts) is str:
                    texts.append(counts)
                    continue
            texts.append(_counts_of(segmentation, height, width))
        except _UnfitError as error:
            raise InputError(f"{where(index)}: {error}") from error
        except Exception as error:  # pycocotools raises bare Exceptions, odd content anything
            raise InputError(f"{where(index)}: unreadable segmentation ({error})") from error
    areas = np.zeros(len(texts), dtype=np.int64)
    for batch in _batches(texts):
        texts[batch], areas[batch] = _checked(
            texts[batch], height, width, lambda index, start=batch.start: where(start + index)
        )
    return [{"size": size, "counts": text} for text in texts], areas


def _batches(texts: list[str]) -> Iterator[slice]:
    """Parts of about ``_BATCH`` characters, at least one text each."""
    start, characters = 0, 0
    for end, text in enumerate(texts, start=1):
        characters += len(text)
        if characters >= _BATCH or end == len(texts):
            yield slice(start, end)
            start, characters = end, 0


def _counts_of(segmentation: Any, height: int, width: int) -> str:
    """Compressed run lengths, which may still be of any content."""
    if isinstance(segmentation, list):
        return _fill(segmentation, height, width)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("neither polygons nor an object with `size` and `counts`")
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list | tuple):
        raise ValueError(f"`size` must be [height, width], is {repr(size)[:40]}")
    if len(size) != 2 or size[0] != height or size[1] != width:
        is_size = len(size) == 2
        found = f"{size[1]}x{size[0]} pixels" if is_size else f"of `size` {repr(size)[:40]}"
        raise _UnfitError(f"segmentation is {found}, its frame {width}x{height}")
    if isinstance(counts, list):
        return _compress(counts, height, width)
    if not isinstance(counts, str | bytes):
        raise ValueError(f"`counts` must be text or a list, is {repr(counts)[:40]}")
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _compress(counts: list, height: int, width: int) -> str:
    """Plain run lengths, which pycocotools would truncate to whole numbers below 2**32."""
    runs = _numbers(counts)
    if (runs < 0).any() or (runs % 1 != 0).any():
        raise ValueError("`counts` must be whole numbers from 0 on")
    if runs.max() > height * width:
        raise ValueError("a run length exceeds the frame")
    compressed = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return compressed["counts"].decode("ascii")


def _fill(polygons: list, height: int, width: int) -> str:
    """The area of all polygons together."""
    if not polygons:
        raise ValueError("there is no polygon")
    for polygon in polygons:
        _check_polygon(_numbers(polygon), height, width)
    filled = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return filled["counts"].decode("ascii")


def _check_polygon(numbers: np.ndarray, height: int, width: int) -> None:
    """Refuse what pycocotools would cut off, take for a box, or need all memory to draw."""
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            f"a polygon must list x and y of three points or more, has {len(numbers)} numbers"
        )
    points = numbers.reshape(-1, 2)
    if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
        raise ValueError("a polygon reaches farther from the frame than the frame is large")
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
    if steps.sum() > 8 * (height + 1) * (width + 1):
        raise ValueError("a polygon's outline is longer than the frame can hold")


def _numbers(values: Any) -> np.ndarray:
    """A list of finite numbers, ``(N,)``."""
    is_flat = isinstance(values, list) and not any(isinstance(v, list | dict | str) for v in values)
    numbers = np.asarray(values if is_flat else None)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise ValueError("polygons and `counts` must be lists of finite numbers")
    return numbers


def _checked(
    texts: list[str], height: int, width: int, where: Callable[[int], str]
) -> tuple[list[str], np.ndarray]:
    """The same masks, without runs of no pixels after the first, and their areas."""
    try:
        sums = sum_runs(texts)
    except ValueError as error:
        place = where(next(index for index, text in enumerate(texts) if not is_counts(text)))
        raise InputError(
            f"{place}: unreadable segmentation (`counts` are not COCO run lengths;"
            " bytes become text by .decode('ascii'))"
        ) from error
    for index in np.flatnonzero((sums.totals != height * width) | (sums.shortest < 1)):
        place, total = where(index), sums.totals[index]
        if sums.shortest[index] < 0:
            raise InputError(f"{place}: unreadable segmentation (a run length is negative)")
        if total != height * width:
            raise InputError(
                f"{place}: run lengths cover {total} pixels, the frame of {width}x{height} has"
                f" {height * width}"
            )
        rle = {"size": [height, width], "counts": texts[index]}
        texts[index] = coco_mask.encode(coco_mask.decode(rle))["counts"].decode("ascii")
    return texts, sums.areas
