"""Public checkpoints by name: fetched on first use, checked, converted, and kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from queryinst_vis.checkpoints.convert import convert_checkpoint
from queryinst_vis.checkpoints.download import download
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import read_json, write_json_atomically

CACHE_VARIABLE = "QUERYINST_VIS_CACHE"
MMDETECTION = "https://download.openmmlab.com/mmdetection/v2.0/queryinst"


@dataclass(frozen=True)
class PublicCheckpoint:
    """A file that its makers offer on the web; ``convert_checkpoint`` knows its layout.

    Attributes:
        url: its name ends with the first eight digits of its SHA-256, ``-5a8f1998.pth``.
        label_set: whose class names the converter gives it.
        summary: the model, its training, and its published AP on COCO val in percent.
    """

    url: str
    label_set: str
    summary: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def hash_prefix(self) -> str:
        """What the file's name says about its hash."""
        return Path(self.file).stem.rpartition("-")[2]


def _mmdetection(config: str, suffix: str, summary: str) -> PublicCheckpoint:
    return PublicCheckpoint(f"{MMDETECTION}/{config}/{config}_{suffix}.pth", "COCO", summary)


# From mmdetection's configs/queryinst/README.md and metafile.yml. The names are those of our
# configs of the same recipe in configs/coco.
CATALOGUE: dict[str, PublicCheckpoint] = {
    "queryinst_r50_100q_1x": _mmdetection(
        "queryinst_r50_fpn_1x_coco",
        "20210907_084916-5a8f1998",
        "ResNet-50, 100 queries, 12 epochs: 42.0 box, 37.5 mask",
    ),
    "queryinst_r50_100q_3x": _mmdetection(
        "queryinst_r50_fpn_mstrain_480-800_3x_coco",
        "20210901_103643-7837af86",
        "ResNet-50, 100 queries, 36 epochs, 480-800: 44.8 box, 39.8 mask",
    ),
    "queryinst_r50_300q_3x_crop": _mmdetection(
        "queryinst_r50_fpn_300_proposals_crop_mstrain_480-800_3x_coco",
        "20210904_101802-85cffbd8",
        "ResNet-50, 300 queries, 36 epochs, 480-800, crop: 47.5 box, 41.7 mask",
    ),
    "queryinst_r101_100q_3x": _mmdetection(
        "queryinst_r101_fpn_mstrain_480-800_3x_coco",
        "20210904_104048-91f9995b",
        "ResNet-101, 100 queries, 36 epochs, 480-800: 46.4 box, 41.0 mask",
    ),
    "queryinst_r101_300q_3x_crop": _mmdetection(
        "queryinst_r101_fpn_300_proposals_crop_mstrain_480-800_3x_coco",
        "20210904_153621-76cce59f",
        "ResNet-101, 300 queries, 36 epochs, 480-800, crop: 49.0 box, 42.9 mask",
    ),
}


def obtain(name: str) -> Path:
    """The converted weights of a catalogued checkpoint; fetched, if they are not there yet.

    Processes that ask at the same time wait for the one that fetches.

    Args:
        name: a key of ``CATALOGUE``.

    Raises:
        InputError: it cannot be fetched, its hash is wrong, or the cache cannot be written.
    """
    weights = cached_weights(name)
    if not weights.is_file():
        try:
            weights.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(weights.parent / ".lock").acquire()
        except OSError as error:
            raise InputError(
                f"weights '{name}': cannot write {weights.parent} ({error.strerror}); name another "
                f"folder by {CACHE_VARIABLE}"
            ) from error
        with lock:
            if not weights.is_file():
                _fetch(name, weights)
    return weights


def cached_weights(name: str) -> Path:
    """Where the converted weights are kept, or would be."""
    return cache_folder() / f"{name}.safetensors"


def cache_folder() -> Path:
    """``$QUERYINST_VIS_CACHE``; else ``queryinst_vis`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "queryinst_vis"


def _fetch(name: str, weights: Path) -> None:
    """Download, check against what is known of the hash, pin the whole hash, convert."""
    entry = CATALOGUE[name]
    checkpoint, pin_file = weights.parent / entry.file, weights.parent / "pins.json"
    pins = read_json(pin_file, "pinned hashes") if pin_file.exists() else {}
    try:
        found = download(entry.url, checkpoint, pins.get(entry.file, entry.hash_prefix))
    except InputError as error:
        pinned = f"; its hash on first use is kept in {pin_file}" if entry.file in pins else ""
        raise InputError(f"weights '{name}': {error}{pinned}") from error
    try:
        if entry.file not in pins:
            write_json_atomically(pin_file, {**pins, entry.file: found})
        convert_checkpoint(checkpoint, weights)
    finally:
        checkpoint.unlink()  # its tensors are in the converted file
