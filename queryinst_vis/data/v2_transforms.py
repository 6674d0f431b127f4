"""Augmentation with ``torchvision.transforms.v2``, built from a config and applied to frames."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from queryinst_vis.data.frames import Frame, MaskPiece, VisibleInstance, fill_box
from queryinst_vis.data.records import Corners
from queryinst_vis.errors import InputError, first_line
from queryinst_vis.utils.plugins import suggest

Sample = dict[str, Any]
"""``image`` (tv_tensors.Image, ``(3, H, W)`` uint8 RGB), ``boxes`` (BoundingBoxes, ``(M, 4)``
xyxy), ``masks`` (Mask, ``(M, H, W)`` uint8, all 0 if only the box is known), ``labels`` and
``ids`` (``(M,)`` int64), ``ignored`` (Mask, ``(H, W)`` uint8, 1 in ignore regions)."""

KEYS = ("image", "boxes", "masks", "labels", "ids", "ignored")

Transforms = Callable[[Sample], Sample]

# Lambda takes a function, which a config cannot contain.
_CLASSES = {
    name: entry
    for name, entry in vars(v2).items()
    if inspect.isclass(entry)
    and issubclass(entry, v2.Transform)
    and entry not in (v2.Transform, v2.Lambda)
}
_KEY = "input.transforms"


def build_transforms(entries: Sequence[dict[str, Any]]) -> Transforms | None:
    """Build the transforms described by ``input.transforms``.

    An entry consists of the ``name`` of a class in ``torchvision.transforms.v2`` and its arguments.
    The argument ``transforms`` (of RandomApply, RandomChoice, RandomOrder, Compose) is a list of
    entries, and ``interpolation`` is given by name. No other objects can be created.

    Args:
        entries: ``input.transforms``.

    Returns:
        The transforms, or None without entries.

    Raises:
        InputError: an unknown class or argument (the message suggests the closest name), or
            invalid arguments.
    """
    chain = [_build(entry, f"{_KEY}[{index}]") for index, entry in enumerate(entries)]
    return _Chain(chain) if chain else None


class _Chain:
    """Transforms of a config, whose errors are raised as InputError."""

    def __init__(self, transforms: list[v2.Transform]) -> None:
        self._transforms = transforms

    def __call__(self, sample: Sample) -> Sample:
        for index, transform in enumerate(self._transforms):
            try:
                sample = transform(sample)
            except Exception as error:  # the type depends on the class
                where = f"{_KEY}[{index}] ({type(transform).__name__})"
                raise InputError(f"{where}: fails on a sample: {first_line(error)}") from error
        return sample


def _build(entry: Any, where: str) -> v2.Transform:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{where}: expected {{name: CLASS, argument: value, ...}}, got {entry!r}")
    name = entry["name"]
    if name not in _CLASSES:
        raise InputError(
            f"{where}: torchvision.transforms.v2 has no transform '{name}' that a config can use; "
            f"{suggest(name, _CLASSES)}"
        )
    known = inspect.signature(_CLASSES[name]).parameters
    arguments = {}
    for key, value in entry.items():
        if key == "name":
            continue
        if key not in known:
            raise InputError(f"{where}: {name} has no argument '{key}'; {suggest(key, known)}")
        arguments[key] = _argument(key, value, f"{where}.{key}")
    if name == "SanitizeBoundingBoxes":
        arguments.setdefault("labels_getter", _labels_and_ids)
    try:
        return _CLASSES[name](**arguments)
    except Exception as error:  # the type depends on the class
        raise InputError(f"{where}: {name} rejects its arguments: {first_line(error)}") from error


def _argument(key: str, value: Any, where: str) -> Any:
    if key == "transforms" and isinstance(value, list):
        return [_build(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if key == "interpolation" and isinstance(value, str):
        try:
            return InterpolationMode(value)
        except ValueError as error:
            names = [mode.value for mode in InterpolationMode]
            raise InputError(
                f"{where}: unknown '{value}'; choose from {', '.join(names)}"
            ) from error
    return value


def _labels_and_ids(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    return sample["labels"], sample["ids"]


def apply_transforms(frame: Frame, chain: Sequence[Transforms], seed: int) -> Frame:
    """Apply transforms to a frame with its boxes and masks.

    Instances whose mask changes get the bounding box of the new mask (torchvision would transform
    the box, which is larger for rotations); those without mask pixels are removed. Instances
    without a mask get the box computed by torchvision.

    Args:
        frame: the frame; not modified.
        chain: transforms of ``Sample``s.
        seed: for the global generators of torch, numpy and Python, whose states are restored
            afterwards. With the same seed, both frames of a pair are transformed with the same
            parameters, unless the random numbers of a transform depend on the frame.

    Raises:
        InputError: the result is not a uint8 RGB image with equal numbers of boxes, masks, labels
            and ids, or a transform of the config fails.
    """
    sample = _to_sample(frame)
    with _seeded(seed):
        for transforms in chain:
            sample = transforms(sample)
    return _to_frame(sample, frame)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators, and restore their states afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _to_sample(frame: Frame) -> Sample:
    image = torch.from_numpy(np.ascontiguousarray(frame.image.transpose(2, 0, 1)))
    masks = torch.zeros((len(frame.instances), *frame.size), dtype=torch.uint8)
    for mask, piece in zip(masks.numpy(), frame.masks, strict=True):
        if piece is not None:
            piece.add_to(mask)
    ignored = torch.zeros(frame.size, dtype=torch.uint8)
    for piece in frame.ignored:
        piece.add_to(ignored.numpy())
    boxes = torch.tensor(frame.boxes, dtype=torch.float32).view(-1, 4)
    return {
        "image": tv_tensors.Image(image),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=frame.size),
        "masks": tv_tensors.Mask(masks),
        "labels": torch.tensor(frame.labels, dtype=torch.int64),
        "ids": torch.tensor(frame.instance_ids, dtype=torch.int64),
        "ignored": tv_tensors.Mask(ignored),
    }


def _to_frame(sample: Sample, before: Frame) -> Frame:
    _check_sample(sample)
    image = np.ascontiguousarray(sample["image"].numpy().transpose(1, 2, 0))
    ignored = sample["ignored"].numpy() != 0
    frame = Frame(image, ignored=[_trim(ignored)] if ignored.any() else [])
    known = {instance.id: instance for instance in before.instances}
    for box, mask, label, number in zip(
        _corners(sample["boxes"], *frame.size),
        sample["masks"].numpy() != 0,
        sample["labels"].tolist(),
        sample["ids"].tolist(),
        strict=True,
    ):
        shape = _shape(box, mask, known.get(number))
        if shape is not None:
            frame.instances.append(VisibleInstance(shape[0], label, number, shape[1]))
    return frame


def _shape(
    box: Corners, mask: np.ndarray, before: VisibleInstance | None
) -> tuple[Corners, MaskPiece | None] | None:
    """Box and mask of a transformed instance, or None if it is no longer visible.

    Args:
        box: transformed box.
        mask: transformed mask, ``(H, W)`` bool.
        before: the original instance; None if a transform added this instance.
    """
    if before is not None and before.mask is None:
        return (box, None) if fill_box(box).pixels.size else None
    if not mask.any():
        return None
    piece = _trim(mask)
    if before is not None and before.mask is not None and _equal(mask, before.mask):
        return before.box, piece
    return piece.box(), piece


def _corners(boxes: torch.Tensor, height: int, width: int) -> list[Corners]:
    """Convert boxes in any torchvision format to xyxy, clipped to the image."""
    if isinstance(boxes, tv_tensors.BoundingBoxes):
        boxes = functional.convert_bounding_box_format(boxes, new_format="XYXY")
    corners = clip_boxes_to_image(boxes.as_subclass(torch.Tensor).float(), (height, width))
    corners[:, 2:] = torch.maximum(corners[:, :2], corners[:, 2:])
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist()]


def _trim(mask: np.ndarray) -> MaskPiece:
    """Crop a nonempty ``(H, W)`` mask to its bounding box."""
    left, top, right, bottom = map(int, MaskPiece(mask, 0, 0).box())
    return MaskPiece(mask[top:bottom, left:right].astype(np.uint8), top, left)


def _equal(mask: np.ndarray, piece: MaskPiece) -> bool:
    same = np.array_equal(piece.window(mask), piece.pixels)
    return same and np.count_nonzero(mask) == np.count_nonzero(piece.pixels)


def _check_sample(sample: Any) -> None:
    """Raise an InputError unless the transforms return a valid sample."""
    returned = sample if isinstance(sample, dict) else {"": sample}
    entries = {key: returned[key] for key in KEYS if isinstance(returned.get(key), torch.Tensor)}
    if len(entries) < len(KEYS):
        raise InputError(
            f"transforms: must return a dict of the tensors {', '.join(KEYS)}, got "
            + ", ".join(f"{key} {type(value).__name__}".strip() for key, value in returned.items())
        )
    image, boxes = entries.pop("image"), entries["boxes"]
    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3 or not image.numel():
        raise InputError(
            f"transforms: must return the image as (3, H, W) uint8, got {tuple(image.shape)} "
            f"{image.dtype}; it is normalised later, with the mean and std of model.backbone"
        )
    count, size = len(boxes), tuple(image.shape[1:])
    expected = [(count, 4), (count, *size), (count,), (count,), size]
    for (key, entry), shape in zip(entries.items(), expected, strict=True):
        if tuple(entry.shape) != shape:
            raise InputError(
                f"transforms: {key} have shape {tuple(entry.shape)}, expected {shape} for {count} "
                f"boxes and an image of (height, width) {size}; to remove an instance, remove its "
                "box, mask, label and id"
            )
    if not boxes.isfinite().all():
        raise InputError("transforms: a returned box has a coordinate that is not finite")
