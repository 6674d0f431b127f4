"""Weights by name: bundled ones, and public checkpoints that are downloaded on first use."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from filelock import FileLock

from queryinst_vis.checkpoints.convert import convert_checkpoint
from queryinst_vis.checkpoints.download import download
from queryinst_vis.checkpoints.hub import SCHEME, fetch_from_hub
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import read_json, write_json_atomically

_FULL_HASH = re.compile(r"[0-9a-f]{64}")
CACHE_VARIABLE = "QUERYINST_VIS_CACHE"
MMDETECTION = "https://download.openmmlab.com/mmdetection/v2.0/queryinst"


@dataclass(frozen=True)
class PublicCheckpoint:
    """A published checkpoint in a format supported by ``convert_checkpoint``.

    Attributes:
        url: the name ends with the first eight digits of the SHA-256, ``-5a8f1998.pth``.
        label_set: the label set of its classes.
        summary: the model, its training, and its published AP on COCO val in percent.
        licence: of the checkpoint.
    """

    url: str
    label_set: str
    summary: str
    licence: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]

    @property
    def hash_prefix(self) -> str:
        """The prefix of the hash in the file name."""
        return Path(self.file).stem.rpartition("-")[2]


def _mmdetection(config: str, suffix: str, summary: str) -> PublicCheckpoint:
    url = f"{MMDETECTION}/{config}/{config}_{suffix}.pth"
    return PublicCheckpoint(url, "COCO", summary, "Apache-2.0, that of mmdetection")


# From mmdetection's configs/queryinst/README.md and metafile.yml, which give URLs and AP, but
# neither sizes nor full hashes: the server gives the size, and the first download pins the hash.
# The licence is that of mmdetection's repository, which does not state one per checkpoint. The
# names are those of the corresponding configs in configs/coco.
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

SHORT_NAMES = {"coco": "queryinst_r50_100q_3x"}
"""Short names of catalogued checkpoints."""


def find_weights(name_or_path: str | Path) -> Path:
    """The file of weights given by name, or the path itself.

    Names are those of bundled weights, of ``CATALOGUE`` (or ``SHORT_NAMES``), whose checkpoints
    are downloaded and converted on first use, and Hugging Face Hub URLs (see
    ``fetch_from_hub``). Only called with names given by the user.

    Raises:
        InputError: neither a file nor a name (all names are listed), or the download failed.
    """
    name, shipped = str(name_or_path), shipped_weights()
    if name in shipped:
        return shipped[name]
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    if SHORT_NAMES.get(name, name) in CATALOGUE:
        return download_and_convert(SHORT_NAMES.get(name, name))
    if name.startswith(SCHEME):
        return fetch_from_hub(name)
    raise InputError(
        f"weights '{name}': neither a file nor the name of bundled weights "
        f"({', '.join(shipped) or 'none are installed'}) or downloadable weights "
        f"({', '.join((*SHORT_NAMES, *CATALOGUE))}), nor hf://OWNER/NAME"
    )


def shipped_weights() -> dict[str, Path]:
    """The bundled weights by name."""
    folder = Path(str(resources.files("queryinst_vis"))) / "weights"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def download_and_convert(name: str) -> Path:
    """The converted weights of a catalogued checkpoint, from the cache after the first use.

    If several processes need it at the same time, one downloads and the others wait.

    Args:
        name: a key of ``CATALOGUE``.

    Raises:
        InputError: the download fails, its hash is wrong, or the cache cannot be written.
    """
    weights = cached_weights(name)
    if not weights.is_file():
        try:
            weights.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(weights.parent / ".lock").acquire()
        except OSError as error:
            raise InputError(
                f"weights '{name}': cannot write {weights.parent} ({error.strerror}); set "
                f"{CACHE_VARIABLE} to another folder"
            ) from error
        with lock:
            if not weights.is_file():
                _fetch(name, weights)
    return weights


def cached_weights(name: str) -> Path:
    """Cache path of the converted weights of a catalogued checkpoint."""
    return cache_folder() / f"{name}.safetensors"


def cache_folder() -> Path:
    """``$QUERYINST_VIS_CACHE``, or ``queryinst_vis`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "queryinst_vis"
    except RuntimeError as error:  # a service account without a home directory
        raise InputError(f"no home folder for cached weights; set {CACHE_VARIABLE}") from error


def _fetch(name: str, weights: Path) -> None:
    """Download, verify, pin the full hash on first use, and convert."""
    entry = CATALOGUE[name]
    checkpoint, pin_file = weights.parent / entry.file, weights.parent / "pins.json"
    pins = read_pins(pin_file) if pin_file.exists() else {}

    def announce(size: int) -> None:
        terms = f"{size / 1e6:.1f} MB, licence: {entry.licence}"
        print(f"fetching {entry.url}: {terms}", file=sys.stderr)

    try:
        pin = pins.get(entry.file, entry.hash_prefix)
        sha256 = download(entry.url, checkpoint, pin, announce)
    except InputError as error:
        pinned = f"; its hash on first use is kept in {pin_file}" if entry.file in pins else ""
        raise InputError(f"weights '{name}': {error}{pinned}") from error
    try:
        if entry.file not in pins:
            write_json_atomically(pin_file, {**pins, entry.file: sha256})
        convert_checkpoint(checkpoint, weights)
    finally:
        checkpoint.unlink()  # its tensors are in the converted file


def read_pins(path: Path) -> dict[str, str]:
    """The full SHA-256 of every downloaded file, by file name.

    Raises:
        InputError: the file has other content.
    """
    pins = read_json(path, "pinned hashes")
    if not isinstance(pins, dict) or not all(
        isinstance(pin, str) and _FULL_HASH.fullmatch(pin) for pin in pins.values()
    ):
        raise InputError(
            f"pinned hashes {path}: must contain a hexadecimal SHA-256 for every file name; "
            "delete it to pin the hashes again"
        )
    return pins
