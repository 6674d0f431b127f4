"""Simple Copy-Paste (Ghiasi et al., 2021): paste instances of one sample into another.

``draw_cutouts`` samples instances of a donor image and their positions in a frame or a pair of
frames, ``paste`` pastes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from queryinst_vis.config import InputConfig
from queryinst_vis.data.frames import (
    MIN_VISIBLE_SHARE,
    Frame,
    MaskPiece,
    VisibleInstance,
    apply_view,
    load_pixels,
)
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.data.views import View, draw_colour
from queryinst_vis.masks import bounding_box, to_rle

_SCALES = (0.3, 2.0)  # scale of the donor image relative to the frame, without input.scale_jitter
_BORDER = 0.01  # fraction of the image's side: closer to the border, an instance is truncated
# Between the frames of a pair:
_SHIFT = 0.5  # maximum displacement, in square roots of the box area
_GROWTH = 0.1  # maximum change of scale
_LEAVES = 0.15  # probability that an instance is in only one of the frames


@dataclass(frozen=True)
class Cutout:
    """One instance of a donor image, with its position in a frame.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB.
        mask: its ``(h, w)`` mask in pixels of the frame; may extend beyond the frame.
        label: class index.
        instance_id: the same in both frames of a pair.
    """

    pixels: np.ndarray
    mask: MaskPiece
    label: int
    instance_id: int


def draw_cutouts(
    rng: np.random.Generator, frames: Sequence[Frame], donor: ImageRecord, config: InputConfig
) -> list[list[Cutout]]:
    """Sample 1 to ``copy_paste_max`` masked instances of a donor and their positions in each frame.

    Scale: a factor in ``scale_jitter`` (0.3 to 2 without it), where 1 fits the whole donor
    image into the frame; no instance is larger than the frame. Position: the same height as in
    the donor image, and a random horizontal position; instances truncated by the border of the
    donor image stay at the border. Flip and colours are sampled as for any view.

    In a pair, the instance has the same id in both frames, moves by up to half its size and
    changes scale by up to 10 %; 15 % of the instances are in only one of the frames.

    Args:
        rng: random generator.
        frames: ``[frame]`` or ``[key, reference]``.
        donor: the donor image.
        config: uses ``scale_jitter``, ``copy_paste_max``, ``flip`` and ``colour``.

    Returns:
        For each frame its cutouts from back to front, with new ids; empty
        if the donor has no masks.

    Raises:
        InputError: the donor's image or a segmentation cannot be read.
    """
    cutouts: list[list[Cutout]] = [[] for _ in frames]
    candidates = [entry for entry in donor.instances if entry.segmentation is not None]
    if not candidates:
        return cutouts
    image = load_pixels(donor)
    scale = rng.uniform(*(config.scale_jitter or _SCALES))
    flip = bool(rng.random() < config.flip)
    colour = draw_colour(rng, config.colour)
    count = min(int(rng.integers(1, config.copy_paste_max + 1)), len(candidates))
    chosen = rng.choice(len(candidates), count, replace=False)
    first_id = 1 + max((known for frame in frames for known in frame.instance_ids), default=0)
    for new_id, index in enumerate(chosen, start=first_id):
        cutter = _Cutter.of(image, donor, candidates[index], flip, colour)
        motions: list[_Motion | None] = _draw_motions(rng) if len(frames) > 1 else [_Motion()]
        centre = rng.random()
        for inserted, frame, motion in zip(cutouts, frames, motions, strict=True):
            if motion is None:
                continue
            cutout = cutter.place(frame.size, scale, centre, motion, new_id)
            if cutout is not None:
                inserted.append(cutout)
    return cutouts


class _Motion(NamedTuple):
    """Motion of an instance in one frame of a pair, relative to the middle of both."""

    right: float = 0.0  # in square roots of its box area, as is `down`
    down: float = 0.0
    growth: float = 1.0


def _draw_motions(rng: np.random.Generator) -> list[_Motion | None]:
    """Half of the motion for each frame of a pair; None if the instance is absent."""
    angle, step = rng.uniform(0, 2 * np.pi), rng.uniform(0, _SHIFT) / 2
    right, down = step * np.cos(angle), step * np.sin(angle)
    growth = (1 + rng.uniform(-_GROWTH, _GROWTH)) ** 0.5
    motions = [_Motion(-right, -down, 1 / growth), _Motion(right, down, growth)]
    absent = int(rng.integers(2))
    if rng.random() >= _LEAVES:
        return list(motions)
    return [None if frame == absent else motion for frame, motion in enumerate(motions)]


@dataclass(frozen=True)
class _Cutter:
    """One instance of a donor image, which can be cut out at any scale.

    Attributes:
        image: the donor's pixels.
        record: the donor with only this instance, its mask as RLE.
        box: tight, in pixels of the donor; all 0 for a mask without pixels.
        flip, colour: of the views to cut out.
    """

    image: np.ndarray
    record: ImageRecord
    box: tuple[int, int, int, int]
    flip: bool
    colour: np.ndarray | None

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        donor: ImageRecord,
        instance: Instance,
        flip: bool,
        colour: np.ndarray | None,
    ) -> _Cutter:
        where = f"image {donor.path}, annotation {instance.id}"
        rle = to_rle(instance.segmentation, donor.height, donor.width, where)
        alone = replace(donor, instances=[replace(instance, segmentation=rle)])
        return cls(image, alone, bounding_box(rle), flip, colour)

    def place(
        self,
        size: tuple[int, int],
        scale: float,
        centre: float,
        motion: _Motion,
        instance_id: int,
    ) -> Cutout | None:
        """The cutout in a frame of this ``(height, width)``; None if no mask pixel is left.

        Args:
            size: of the frame.
            scale: 1 fits the whole donor image into the frame.
            centre: 0..1, horizontal position in the frame.
            motion: of this frame.
            instance_id: of the cutout.
        """
        height, width = size
        donor = self.record
        x0, y0, x1, y1 = self.box
        if x0 == x1:
            return None
        scale *= motion.growth
        scale *= min(height / donor.height, width / donor.width)
        scale = min(scale, height / (y1 - y0), width / (x1 - x0))
        rows, columns = (max(round(side * scale), 1) for side in (y1 - y0, x1 - x0))
        view = View(y0, x0, y1, x1, rows, columns, self.flip, self.colour)
        frame = apply_view(self.image, donor, view)
        mask = frame.instances[0].mask if frame.instances else None
        if mask is None:
            return None
        if self.flip:
            x0, x1 = donor.width - x1, donor.width - x0
        unit = (rows * columns) ** 0.5
        as_high = (y0 + y1) / 2 / donor.height
        top = _start((y0, y1), donor.height, as_high, rows, height, unit * motion.down)
        left = _start((x0, x1), donor.width, centre, columns, width, unit * motion.right)
        piece = MaskPiece(mask.pixels, top, left)
        return Cutout(frame.image, piece, frame.instances[0].label, instance_id)


def _start(
    span: tuple[int, int], donor_side: int, centre: float, length: int, side: int, shift: float
) -> int:
    """First of an instance's ``length`` pixels along one axis of a frame.

    Args:
        span: start and end of the instance in the donor; an end truncated by the donor's border
            stays at the frame's border.
        donor_side: of the donor, in pixels.
        centre: 0..1, of the instance in the frame.
        length: of the instance in the frame, in pixels.
        side: of the frame, in pixels.
        shift: in pixels.
    """
    margin = _BORDER * donor_side
    at_start, at_end = span[0] <= margin, span[1] >= donor_side - margin
    if at_start and not at_end:
        return round(min(shift, 0))
    if at_end and not at_start:
        return round(side - length + max(shift, 0))
    return round(centre * side - length / 2 + shift)


def paste(frame: Frame, cutouts: Sequence[Cutout]) -> Frame:
    """Paste cutouts into a frame, each in front of the previous ones.

    A cutout is clipped to the frame. The pixels that it covers are removed from the masks behind
    it and from ignore regions. Instances that lose pixels get the bounding box of the remaining
    ones; those without pixels are removed. An instance without a mask keeps its box if at least
    ``MIN_VISIBLE_SHARE`` of it is uncovered; otherwise the remainder becomes an ignore region.

    Returns:
        A new frame with a copy of the image.
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
    """The frame without the covered parts, in new lists."""
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
    """The part of a piece not covered by ``covers``: the same object if none overlaps it."""
    for cover in covers:
        piece = _subtract(piece, cover)
    return piece


def _subtract(piece: MaskPiece, cover: MaskPiece) -> MaskPiece:
    """The part of a piece not covered by ``cover``: the same object if they do not overlap."""
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
