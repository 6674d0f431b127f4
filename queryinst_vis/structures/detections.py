"""The detections of one frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.errors import InputError
from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.masks.paste import paste_masks
from queryinst_vis.structures.notebook import as_html
from queryinst_vis.utils.images import ImageLike, to_array

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv
    from PIL import Image

Embedding = Literal["track_head", "query"]
"""Kind of association embedding: that of the track head, or the instance's query after the last
stage of the detector."""

_SHOWN = 5  # instances in the repr of Detections


@dataclass(repr=False)
class Detections:
    """The detections of one frame, in pixels of the original frame.

    Attributes:
        boxes: ``(N, 4)`` float xyxy; not clipped to the frame.
        scores: ``(N,)`` float in 0..1.
        labels: ``(N,)`` int64, 0-based index into the class names.
        image_size: ``(height, width)`` of the original frame.
        mask_logits: ``(N, 28, 28)`` logits inside each box, or None.
        embeddings: ``(N, D)`` association embeddings, or None.
        track_ids: ``(N,)`` int64 identities, or None before tracking.
        mask_threshold: minimum probability of mask pixels.
        pixel_masks: N masks of a detector that returns pixels or RLEs instead of logits, or None.
        of_damaged_frame: the frame could not be decoded, so there are no detections.
        class_names: names of the labels, or None if unknown.
        image: the array, PIL image or path passed to ``Detector.detect``, used by
            ``plot`` and ``crops``; None if it was not kept.

    Masks are pasted into the frame on first access, and cached. Do not modify ``boxes`` or
    ``mask_logits`` afterwards; create new Detections with ``dataclasses.replace`` instead.

    Example::

        found = queryinst_vis.detect("photo.jpg")
        large = found[found.scores > 0.5]
        print(large.boxes.shape, large.masks().shape)  # (N, 4), (N, height, width)
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    image_size: tuple[int, int]
    mask_logits: Tensor | None = None
    embeddings: Tensor | None = None
    track_ids: Tensor | None = None
    mask_threshold: float = 0.5
    pixel_masks: list[InstanceMask] | None = None
    of_damaged_frame: bool = False
    class_names: list[str] | None = None
    image: ImageLike | None = field(default=None, compare=False)
    _pasted: list[InstanceMask] | None = field(default=None, init=False, compare=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        count, (height, width) = len(self), self.image_size
        head = f"{count} {'instance' if count == 1 else 'instances'} in {width}x{height}"
        if self.has_masks:
            head += ", with masks"
        rows = [self._describe(row) for row in range(min(count, _SHOWN))]
        if count > _SHOWN:
            rows.append(f"and {count - _SHOWN} more")
        return f"Detections({head}{': ' if rows else ''}{'; '.join(rows)})"

    def _describe(self, row: int) -> str:
        track_id = "" if self.track_ids is None else f"#{int(self.track_ids[row])} "
        label = int(self.labels[row])
        name = f"label {label}" if self.class_names is None else self.class_names[label]
        box = ", ".join(f"{side:.0f}" for side in self.boxes[row].tolist())
        return f"{track_id}{name}, {float(self.scores[row]):.2f} at ({box})"

    def __getitem__(self, index: Tensor | slice | list[int] | int) -> Detections:
        """The detections at ``index`` (a bool mask, a slice or indices), as new Detections.

        A single index gives Detections with one instance, so that iterating yields these.

        Raises:
            IndexError: there are fewer detections.
        """
        if isinstance(index, int):
            index = [range(len(self))[index]]

        def choose(masks: list[InstanceMask]) -> list[InstanceMask]:
            rows = torch.arange(len(masks))[index.cpu() if isinstance(index, Tensor) else index]
            return [masks[row] for row in rows.tolist()]

        return self._map(lambda tensor: tensor[index], choose)

    def to(self, device: torch.device | str) -> Detections:
        """A copy with all tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device), list)

    def _map(
        self,
        tensors: Callable[[Tensor], Tensor],
        masks: Callable[[list[InstanceMask]], list[InstanceMask]],
    ) -> Detections:
        """A copy with functions applied to every tensor and to the lists of masks."""
        changed: dict[str, Any] = {
            f.name: tensors(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        result = replace(self, **changed)
        result.pixel_masks = None if self.pixel_masks is None else masks(self.pixel_masks)
        result._pasted = None if self._pasted is None else masks(self._pasted)
        return result

    @property
    def has_masks(self) -> bool:
        """Whether there are masks, or only boxes."""
        return self.mask_logits is not None or self.pixel_masks is not None

    def masks(self) -> Tensor:
        """``(N, H, W)`` bool masks in pixels of the original frame."""
        frames = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for frame, mask in zip(frames.numpy(), self.instance_masks(), strict=True):
            mask.write(frame)
        return frames.to(self.boxes.device)

    def rles(self) -> list[RLE]:
        """The masks as N compressed COCO RLEs, computed without full-frame masks."""
        return [mask.rle for mask in self.instance_masks()]

    def instance_masks(self) -> list[InstanceMask]:
        """The N masks as pixels around each box and as RLEs, each computed once.

        Raises:
            ValueError: there are only boxes.
        """
        if self.pixel_masks is not None:
            return self.pixel_masks
        if self._pasted is None:
            if self.mask_logits is None:
                raise ValueError("these Detections have only boxes: the detector returned no masks")
            self._pasted = paste_masks(
                self.mask_logits, self.boxes, self.image_size, self.mask_threshold
            )
        return self._pasted

    def to_supervision(self, masks: bool = True) -> sv.Detections:
        """The detections as supervision's exchange type, on the CPU.

        Args:
            masks: include full-frame masks, if there are any.

        Returns:
            ``xyxy`` (N, 4), ``mask`` (N, H, W) bool or None, ``confidence`` (N,), ``class_id`` (N,)
            and ``tracker_id`` (N,) or None; ``data["class_name"]`` (N,) str if the names are
            known.
        """
        import supervision as sv

        labels, ids, names = self.labels.cpu().numpy(), self.track_ids, self.class_names
        return sv.Detections(
            xyxy=self.boxes.float().cpu().numpy(),
            mask=self.masks().cpu().numpy() if masks and self.has_masks else None,
            confidence=self.scores.float().cpu().numpy(),
            class_id=labels,
            tracker_id=None if ids is None else ids.cpu().numpy(),
            data={} if names is None else {"class_name": np.array(names, dtype=str)[labels]},
        )

    def to_dataframe(self) -> pd.DataFrame:
        """The detections as a pandas table, one row each.

        Returns:
            Columns ``track_id`` (if tracked), ``class_name`` (if known), ``label``,
            ``score``, ``x1``, ``y1``, ``x2``, ``y2`` and ``area`` (pixels of the mask, if there
            are masks).

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise InputError(
                "to_dataframe() needs pandas, which is not installed: "
                "pip install 'queryinst-vis[tables]'"
            ) from error
        return pd.DataFrame(self.columns())

    to_df = to_dataframe  # its name in ultralytics

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of ``to_dataframe``: N int64, float64 or str objects by column name."""
        columns: dict[str, np.ndarray] = {}
        if self.track_ids is not None:
            columns["track_id"] = self.track_ids.cpu().numpy()
        if self.class_names is not None:
            names = [self.class_names[label] for label in self.labels.tolist()]
            columns["class_name"] = np.array(names, dtype=object)
        columns["label"] = self.labels.cpu().numpy()
        columns["score"] = self.scores.double().cpu().numpy()
        sides = self.boxes.double().cpu().numpy().T
        columns |= dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))
        if self.has_masks:
            areas = [mask.region.pixels.sum() for mask in self.instance_masks()]
            columns["area"] = np.array(areas, dtype=np.int64)
        return columns

    def plot(self, frame: ImageLike | None = None) -> Image.Image:
        """Draw the detections on the frame, in the style of ``track`` but without paths.

        Args:
            frame: ``(H, W, 3)`` uint8 RGB, a PIL image or a path; None: ``image``.

        Returns:
            A PIL image; ``numpy.asarray`` converts it to an ``(H, W, 3)`` uint8 RGB array.

        Raises:
            InputError: the frame is unknown, or its size is not ``image_size``.
        """
        from PIL import Image

        from queryinst_vis.drawing import Overlay

        names = self.class_names
        if names is None:
            names = [f"label {label}" for label in range(max(self.labels.tolist(), default=-1) + 1)]
        return Image.fromarray(Overlay(names).draw(self._pixels(frame), self))

    def crops(self, frame: ImageLike | None = None) -> list[Image.Image]:
        """Crop of each box, clipped to the frame, at least one pixel.

        Args:
            frame: as for ``plot``.

        Returns:
            N PIL images, in the order of the boxes.

        Raises:
            InputError: as for ``plot``.
        """
        from PIL import Image

        pixels = self._pixels(frame)
        height, width = self.image_size
        crops = []
        for x1, y1, x2, y2 in self.boxes.tolist():
            left = min(max(math.floor(x1), 0), width - 1)
            top = min(max(math.floor(y1), 0), height - 1)
            right, bottom = max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)
            crops.append(Image.fromarray(pixels[top:bottom, left:right]))
        return crops

    def _pixels(self, frame: ImageLike | None) -> np.ndarray:
        given = self.image if frame is None else frame
        if given is None:
            raise InputError(
                "these Detections do not contain their frame; pass it: plot(frame), crops(frame)"
            )
        pixels = to_array(given)
        if pixels.shape[:2] != self.image_size:
            size, expected = ("{1}x{0}".format(*each) for each in (pixels.shape, self.image_size))
            raise InputError(
                f"the frame has {size} pixels, but the detections are for {expected} pixels"
            )
        return pixels

    def _repr_html_(self) -> str:
        """Notebook display: a table, below the image if available."""
        return as_html(None if self.image is None else self.plot(), self.columns(), repr(self))
