"""Detecting instances in image files: COCO results and annotated images."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.coco_detections import CocoDetections, coco_detections
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.filters import check_classes, for_showing, of_classes, with_thresholds
from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import atomic_path, files_together
from queryinst_vis.utils.images import read_image
from queryinst_vis.utils.prefetch import prefetch
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.image_sequence import images_in, images_of_glob

DETECTIONS = "detections.json"
_WRITABLE = (".jpg", ".jpeg", ".png", ".webp")
_NAMED = 5  # maximum number of unreadable images listed in a warning


@dataclass(frozen=True)
class DetectSummary:
    """Summary of the detections in a set of images.

    Attributes:
        images: number of processed images.
        counts: number of instances by class name.
        seconds: total wall-clock time.
        detections: the COCO file.
        pictures: number of annotated images written.
        hint: what to try if nothing was found; otherwise None.
    """

    images: int
    counts: dict[str, int]
    seconds: float
    detections: Path
    pictures: int
    hint: str | None

    def __str__(self) -> str:
        total = sum(self.counts.values())
        found = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        head = f"{_count(total, 'instance')} in {_count(self.images, 'image')}"
        head += f" ({found})" if found else ""
        speed = f"{self.seconds:.1f} s ({self.images / self.seconds:.1f} images/s)"
        lines = [f"{head}, {speed}", f"wrote {self.detections}"]
        if self.pictures:
            lines.append(f"wrote {_count(self.pictures, 'picture')} to {self.detections.parent}")
        return "\n".join(lines)


def find_images(words: Sequence[str]) -> list[Path]:
    """List image files.

    Args:
        words: files, folders and glob patterns.

    Returns:
        The images, in the order of the words.

    Raises:
        InputError: no such file, or a folder without images.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += images_in(path)
        elif not path.exists() and has_magic(word):
            found += images_of_glob(word)
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"image {word}: no such file")
    return found


def detect_images(
    images: Sequence[Path],
    out_dir: str | Path = "out/detect",
    weights: str | Path = "people",
    *,
    classes: Sequence[str | int] | None = None,
    conf: float | None = None,
    iou: float | None = None,
    batch: int = 1,
    max_size: int | None = None,
    device: str = "auto",
    overrides: list[str] | None = None,
    pictures: bool = True,
    overwrite: bool = False,
) -> DetectSummary:
    """Detect and segment the instances of image files.

    Writes ``detections.json`` (COCO: images, categories, annotations with scores) and each
    annotated image, under its own name. All files are published together at the end. Unreadable
    images are skipped with a warning.

    Args:
        images: image files; duplicates are ignored.
        out_dir: output folder, created if necessary.
        weights, max_size, device, overrides: as for ``Detector.from_pretrained``.
        classes, iou, batch: as for ``Detector.detect``.
        conf: score threshold, 0..1; None: that of the weights, or 0.3 if that is the 0.05 used for
            benchmarks.
        pictures: whether to write annotated images.
        overwrite: replace results of other images in ``out_dir``.

    Raises:
        InputError: invalid weights or settings, no readable image, or a file would replace an image
            or, without ``overwrite``, another run's results.
    """
    start = time.perf_counter()
    out = Path(out_dir)
    names = _names_below_root(images)
    targets = {path: out / _writable(name) for path, name in names.items()} if pictures else {}
    origin = _origin(names)
    _check_targets([out / DETECTIONS, *targets.values()], names, origin, overwrite)
    overrides = overrides or []
    detector = Detector.from_pretrained(weights, device, overrides, max_size)
    check_classes(classes, detector.class_names)
    detector = with_thresholds(for_showing(detector, overrides), conf, iou)
    unreadable: list[Path] = []
    counts: Counter[str] = Counter()
    images_done = 0
    with (
        files_together(),
        coco_detections(out / DETECTIONS, detector.class_names, {"source": origin}) as file,
    ):
        readable = prefetch(_read(list(names), unreadable), max(2, batch))
        found = _detect(detector, readable, batch, classes)
        for path, frame, detections in show_progress(found, "Detecting", len(names)):
            images_done += 1
            counts.update(detector.class_names[label] for label in detections.labels.tolist())
            _add(file, names[path], detections)
            if pictures:
                with atomic_path(targets[path]) as temporary:
                    detections.plot(frame).save(temporary, quality=92)
        _check_readable(unreadable, len(names))
    return DetectSummary(
        images_done,
        dict(counts),
        time.perf_counter() - start,
        out / DETECTIONS,
        images_done if pictures else 0,
        None if counts else _hint(detector),
    )


def _add(file: CocoDetections, name: str, detections: Detections) -> None:
    """Append the detections in an image to the COCO file."""
    columns = detections.columns()
    file.add(
        name,
        detections.image_size,
        detections.labels.tolist(),
        detections.scores.tolist(),
        detections.boxes.tolist(),
        detections.rles() if detections.has_masks else None,
        columns["area"].tolist() if "area" in columns else None,
    )


def _check_readable(unreadable: Sequence[Path], total: int) -> None:
    """Warn of unreadable images, and refuse if there are no others."""
    if len(unreadable) == total:
        raise InputError(
            f"{unreadable[0]}: not a readable image, nor any other of {_count(total, 'image')}; "
            "videos are for 'queryinst-vis track'"
        )
    if unreadable:
        shown = ", ".join(str(path) for path in unreadable[:_NAMED])
        more = " and others" if len(unreadable) > _NAMED else ""
        warnings.warn(
            f"{len(unreadable)} of {_count(total, 'image')} cannot be read and were skipped: "
            f"{shown}{more}",
            InputWarning,
            stacklevel=3,
        )


def _detect(
    detector: Detector,
    images: Iterator[tuple[Path, np.ndarray]],
    batch: int,
    classes: Sequence[str | int] | None,
) -> Iterator[tuple[Path, np.ndarray, Detections]]:
    while group := list(islice(images, batch)):
        found = detector.detect_frames([frame for _, frame in group], embedding=None)
        for (path, frame), detections in zip(group, found, strict=True):
            chosen = detections if classes is None else of_classes(detections, classes)
            yield path, frame, chosen


def _read(paths: Sequence[Path], unreadable: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_image(path)
        except InputError:
            unreadable.append(path)


def _names_below_root(images: Sequence[Path]) -> dict[Path, str]:
    """The distinct images and their paths relative to the common parent folder."""
    if not images:
        raise InputError("there are no images")
    places = {path: Path(os.path.abspath(path)) for path in dict.fromkeys(images)}
    once = {place: path for path, place in reversed(places.items())}
    root = os.path.commonpath([place.parent for place in places.values()])
    return {
        path: place.relative_to(root).as_posix()
        for path, place in places.items()
        if once[place] is path
    }


def _writable(name: str) -> str:
    return name if Path(name).suffix.lower() in _WRITABLE else f"{name}.png"


def _origin(names: dict[Path, str]) -> str:
    """Hash of the image paths, which identifies the set without disclosing them."""
    paths = "\n".join(os.path.abspath(path) for path in names)
    return sha256(paths.encode(errors="surrogateescape")).hexdigest()


def _check_targets(
    targets: list[Path], images: dict[Path, str], origin: str, overwrite: bool
) -> None:
    inputs = {path.resolve() for path in images}
    for target in targets:
        if target.resolve() in inputs:
            raise InputError(
                f"{target}: the annotated picture would replace the image; choose another folder "
                "with --out"
            )
    there = [target for target in targets if target.exists()]
    if there and not overwrite and _origin_of_results(targets[0]) != origin:
        raise InputError(
            f"{there[0]}: contains results of other images; use another folder with --out, or "
            "replace them with --overwrite"
        )


def _origin_of_results(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8") as file:
            head = file.readline()
        info = json.loads(head.partition(', "categories"')[0] + "}")
        return str(info["info"]["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hint(detector: Detector) -> str:
    """What to try if nothing was found."""
    threshold = detector.config.inference.score_threshold
    names = ", ".join(detector.class_names[:10])
    more = f" and {len(detector.class_names) - 10} more" if len(detector.class_names) > 10 else ""
    return (
        f"nothing was found: these weights detect {names}{more}; try other weights (--weights) "
        f"or a lower threshold than {threshold:g} (--conf)"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
