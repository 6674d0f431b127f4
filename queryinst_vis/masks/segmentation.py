"""Validation of COCO segmentations of all kinds, and conversion to compressed RLE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.masks.decoded import DecodedMasks, concatenate, decode_valid
from queryinst_vis.masks.rle import RLE, as_text, compress, decode_rle, encode_rle
from queryinst_vis.masks.run_lengths import MAX_PIXELS, is_counts, sum_runs
from queryinst_vis.utils.numbers import are_finite

_MAX_SIDE = 65535
_BATCH = 1 << 18
"""Characters decoded together: many for efficient numpy calls, but small enough for the cache."""


class MaskError(InputError):
    """An invalid segmentation.

    Attributes:
        kind: kind of error, as in ``formats.findings``: "empty entry", "polygon",
            "mask size", "run lengths", "counts as bytes" or "unreadable mask".
        index: index of the segmentation.
    """

    def __init__(self, message: str, kind: str = "unreadable mask", index: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.index = index


def to_rle(segmentation: Any, height: int, width: int, where: str) -> RLE:
    """``to_rles`` of a single segmentation; ``where`` names it in error messages.

    Raises:
        MaskError: as for ``to_rles``.
    """
    [rle], _ = to_rles([segmentation], height, width, lambda _: where)
    return rle


def to_rles(
    segmentations: Sequence[Any],
    height: int,
    width: int,
    where: Callable[[int], str] | None = None,
) -> tuple[list[RLE], np.ndarray]:
    """Convert COCO segmentations to valid RLEs; ``to_masks`` without the decoded runs.

    Args:
        segmentations, height, width, where: as for ``to_masks``.

    Returns:
        One RLE each, and ``(N,)`` int64 areas in pixels.

    Raises:
        MaskError: as for ``to_masks``.
    """
    rles, areas, _ = to_masks(segmentations, height, width, where)
    return rles, areas


def to_masks(
    segmentations: Sequence[Any],
    height: int,
    width: int,
    where: Callable[[int], str] | None = None,
) -> tuple[list[RLE], np.ndarray, DecodedMasks | None]:
    """Convert COCO segmentations of one frame size to valid RLEs and decode them.

    Args:
        segmentations: each a list of polygons, or ``{"size", "counts"}`` with counts as a list,
            text or bytes.
        height, width: size of the frame that the masks must have, in pixels.
        where: gives the prefix of error messages for a segmentation's index.

    Returns:
        One RLE each, ``(N,)`` int64 areas in pixels, and the ``(N,)`` decoded masks, None where
        ``decode_valid`` is not available.

    Raises:
        MaskError: a segmentation cannot be read, has another size, or its run lengths do
            not fill the frame (which makes pycocotools loop forever or read out of bounds).
    """
    size = [height, width]
    texts: list[str] = []
    decoded: list[DecodedMasks | None] = []
    areas = np.zeros(len(segmentations), dtype=np.int64)
    first = 0
    try:
        if segmentations and (max(size) > _MAX_SIDE or height * width > MAX_PIXELS):
            raise MaskError(f"a frame of {width}x{height} pixels is too large for masks")
        for index, segmentation in enumerate(segmentations):
            first = index
            # the common case: many masks together
            if type(segmentation) is dict and segmentation.get("size") == size:
                counts = segmentation.get("counts")
                if type(counts) is str:
                    texts.append(counts)
                    continue
            texts.append(_counts_of(segmentation, height, width))
        for batch in _batches(texts):
            first = batch.start
            texts[batch], areas[batch], masks = _checked(texts[batch], height, width)
            decoded.append(masks)
    except MaskError as error:
        index = first + error.index
        place = "" if where is None else f"{where(index)}: "
        raise MaskError(f"{place}{error}", error.kind, index) from error
    return [{"size": size, "counts": text} for text in texts], areas, concatenate(decoded)


def check_segmentation(segmentation: Any, height: int, width: int) -> None:
    """Check the type and size of a segmentation as ``to_rle`` does, without decoding it.

    Raises:
        MaskError: it is neither a list of polygons nor an RLE of this frame size.
    """
    if isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon)
        return
    if segmentation in ([], {}, ""):
        raise MaskError(
            f"is {segmentation!r}; where the object is absent, write null", "empty entry"
        )
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise MaskError(
            f"is {segmentation!r:.40}, neither polygons nor an object with `size` and `counts`"
        )
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise MaskError(f"`size` must be [height, width], is {size!r:.40}")
    if tuple(size) != (height, width):
        if not all(isinstance(side, int) for side in size):
            raise MaskError(f"`size` must be [height, width], is {size!r:.40}")
        hint = "; [height, width] is swapped" if tuple(size) == (width, height) else ""
        raise MaskError(
            f"the mask is {size[1]}x{size[0]} pixels, its frame {width}x{height}{hint}", "mask size"
        )
    if not isinstance(counts, list | str | bytes):
        raise MaskError(f"`counts` must be text or a list, is {counts!r:.40}")


def _check_polygon(polygon: Any) -> None:
    is_list = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
    if not is_list or not are_finite(polygon):
        raise MaskError(
            f"a polygon must be x, y, x, y, ... of three or more finite points, is {polygon!r:.40}",
            "polygon",
        )


def _counts_of(segmentation: Any, height: int, width: int) -> str:
    """Compressed RLE, not validated yet."""
    check_segmentation(segmentation, height, width)
    if isinstance(segmentation, list):
        return _fill(segmentation, height, width)
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return _compress(counts, height, width)
    try:
        return as_text(counts)
    except UnicodeDecodeError as error:
        raise MaskError(f"`counts` are not COCO run lengths ({error})") from error


def _fill(polygons: list, height: int, width: int) -> str:
    """The union of all polygons, rejecting those that would exhaust memory."""
    for polygon in polygons:
        points = np.array(polygon, dtype=float).reshape(-1, 2)
        if (points < (-width, -height)).any() or (points > (2 * width, 2 * height)).any():
            raise MaskError(
                "a polygon extends beyond the frame by more than the frame size", "polygon"
            )
        steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
        if steps.sum() > 8 * (height + 1) * (width + 1):
            raise MaskError("a polygon's outline is too long for the frame", "polygon")
    return as_text(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"])


def _compress(counts: list, height: int, width: int) -> str:
    """Uncompressed run lengths; pycocotools would truncate them to 32 bits."""
    runs = np.array(counts if are_finite(counts) else [-1], dtype=float)
    if not len(runs) or (runs < 0).any() or (runs % 1 != 0).any():
        raise MaskError("`counts` must be non-negative integers")
    if runs.max() > height * width:
        raise _not_filled(runs.sum(), height, width)
    return as_text(compress(runs.astype(np.int64), height, width)["counts"])


def _not_filled(total: float, height: int, width: int, index: int = 0) -> MaskError:
    return MaskError(
        f"run lengths add up to {total:.0f} pixels, not to {width} x {height} = {width * height}",
        "run lengths",
        index,
    )


def _batches(texts: list[str]) -> Iterator[slice]:
    """Split into parts of about ``_BATCH`` characters, with at least one text each."""
    start, characters = 0, 0
    for end, text in enumerate(texts, start=1):
        characters += len(text)
        if characters >= _BATCH or end == len(texts):
            yield slice(start, end)
            start, characters = end, 0


def _checked(
    texts: list[str], height: int, width: int
) -> tuple[list[str], np.ndarray, DecodedMasks | None]:
    """The same masks without empty runs after the first, their ``(N,)`` areas, and decoded."""
    if valid := decode_valid(texts, height, width):
        masks, areas = valid
        return texts, areas, masks
    try:
        sums = sum_runs(texts)
    except ValueError as error:
        index = next(index for index, text in enumerate(texts) if not is_counts(text))
        if texts[index].startswith(("b'", 'b"')):
            raise MaskError(
                "`counts` are Python bytes (b'...'); use .decode('ascii') before writing JSON",
                "counts as bytes",
                index,
            ) from error
        raise MaskError("`counts` are not COCO run lengths", index=index) from error
    for index in np.flatnonzero((sums.totals != height * width) | (sums.shortest < 1)).tolist():
        if sums.shortest[index] < 0:
            raise MaskError("a run length is negative", index=index)
        if sums.totals[index] != height * width:
            raise _not_filled(sums.totals[index], height, width, index)
        rle: RLE = {"size": [height, width], "counts": texts[index]}
        texts[index] = as_text(encode_rle(decode_rle(rle))["counts"])
    repaired = decode_valid(texts, height, width)
    return texts, sums.areas, repaired and repaired[0]
