"""Simple Copy-Paste (Ghiasi et al., 2021): instances of one sample, pasted over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from queryinst_vis.data.cutouts import Cutout
from queryinst_vis.data.frames import MIN_VISIBLE_SHARE, Frame, MaskPiece, VisibleInstance


def paste(frame: Frame, cutouts: Sequence[Cutout]) -> Frame:
    """Put cutouts over a frame, each one in front of those before it.

    A cutout is clipped to the frame. What it covers is no longer part of the masks beneath, nor
    of regions to ignore: instances that lose pixels get the bounding box of the rest, those
    without any left vanish. An instance without a mask keeps its box as long as a share of
    ``MIN_VISIBLE_SHARE`` is uncovered; below, the rest becomes a region to ignore.

    Returns:
        A new frame with a copy of the image; the given one is left alone.
    """
    image = frame.image.copy()
    pasted: list[tuple[Cutout, MaskPiece]] = []
    for cutout in cutouts:
        piece, pixels = _clip(cutout, *image.shape[:2])
        if piece.pixels.any():
            np.copyto(piece.window(image), pixels, where=piece.pixels[:, :, None].astype(bool))
            pasted.append((cutout, piece))
    pieces = [piece for _, piece in pasted]
    result = _hide(replace(frame, image=image), pieces)
    for number, (cutout, piece) in enumerate(pasted, start=1):
        rest = _subtract_all(piece, pieces[number:])
        if rest.pixels.any():
            result.instances.append(
                VisibleInstance(rest.box(), cutout.label, cutout.instance_id, rest)
            )
    return result


def _clip(cutout: Cutout, height: int, width: int) -> tuple[MaskPiece, np.ndarray]:
    """Mask and pixels of the part inside a frame."""
    mask, top, left = cutout.mask
    rows = slice(max(-top, 0), max(height - top, 0))
    columns = slice(max(-left, 0), max(width - left, 0))
    piece = MaskPiece(mask[rows, columns], max(top, 0), max(left, 0))
    return piece, cutout.pixels[rows, columns]


def _hide(frame: Frame, covers: Sequence[MaskPiece]) -> Frame:
    """The frame without what is covered, in new lists."""
    shown = Frame(frame.image)
    for instance in frame.instances:
        rest = _subtract_all(instance.shape(), covers)
        if not rest.pixels.any():
            continue
        if instance.mask is None and rest.pixels.mean() < MIN_VISIBLE_SHARE:
            shown.ignored.append(rest)
        elif instance.mask is None or rest is instance.mask:
            shown.instances.append(instance)
        else:
            shown.instances.append(instance._replace(box=rest.box(), mask=rest))
    uncovered = [_subtract_all(piece, covers) for piece in frame.ignored]
    shown.ignored.extend(piece for piece in uncovered if piece.pixels.any())
    return shown


def _subtract_all(piece: MaskPiece, covers: Sequence[MaskPiece]) -> MaskPiece:
    """What ``covers`` leave of a piece: the very same piece where none meets it."""
    for cover in covers:
        piece = _subtract(piece, cover)
    return piece


def _subtract(piece: MaskPiece, cover: MaskPiece) -> MaskPiece:
    """What ``cover`` leaves of a piece: the very same piece where they do not meet."""
    top, bottom = _overlap(piece.top, len(piece.pixels), cover.top, len(cover.pixels))
    left, right = _overlap(piece.left, piece.pixels.shape[1], cover.left, cover.pixels.shape[1])
    if top >= bottom or left >= right:
        return piece
    inside = (
        slice(top - piece.top, bottom - piece.top),
        slice(left - piece.left, right - piece.left),
    )
    above = slice(top - cover.top, bottom - cover.top), slice(left - cover.left, right - cover.left)
    covered = piece.pixels[inside] & cover.pixels[above]
    if not covered.any():
        return piece
    pixels = piece.pixels.copy()
    pixels[inside] ^= covered
    return piece._replace(pixels=pixels)


def _overlap(first: int, length: int, other: int, other_length: int) -> tuple[int, int]:
    return max(first, other), min(first + length, other + other_length)
