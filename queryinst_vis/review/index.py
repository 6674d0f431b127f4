"""Index of a ``tracks.jsonl`` for random access to frames and tracks of long videos."""

from __future__ import annotations

import hashlib
import json
from array import array
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_lines import read_frame, read_header
from queryinst_vis.formats.track_store import Observation, StoredFrame, VideoInfo
from queryinst_vis.utils.files import atomic_folder, write_json_atomically
from queryinst_vis.utils.progress import show_progress

_FORMAT = "queryinst-vis track index"
_VERSION = 1
_ABOUT = "index.json"
_OTHER_ARRAYS = ("offsets", "numbers", "seconds", "track_ids", "starts")
_COLUMNS = {"frames": "i", "labels": "i", "scores": "f", "areas": "q", "boxes": "f"}
"""Type codes of the columns, as in the module ``array``."""


class ResultsIdentity(NamedTuple):
    """Identity of a result file: size in bytes and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class TrackIndex:
    """Index of a ``tracks.jsonl`` with F frames, T tracks and N observations.

    Masks stay in the file and are read on demand, by the offset of each frame's line. The arrays
    are memory-mapped.

    Attributes:
        path: the file.
        identity: identity of its content.
        video: properties of the video, from the first line.
        size: ``(height, width)`` of the frames.
        offsets: ``(F + 1,)`` byte offsets of the frames' lines.
        numbers: ``(F,)`` number of each frame in the video.
        seconds: ``(F,)`` time of each frame, NaN if unknown.
        track_ids: ``(T,)`` ascending.
        starts: ``(T + 1,)`` first row of each track in the columns below, which are sorted by
            track, then frame.
        frames, labels, scores, areas: ``(N,)`` frame index, class index, score in 0..1 and mask
            area in pixels.
        boxes: ``(N, 4)`` xyxy in pixels.
    """

    path: Path
    identity: ResultsIdentity
    video: VideoInfo
    size: tuple[int, int]
    offsets: np.ndarray
    numbers: np.ndarray
    seconds: np.ndarray
    track_ids: np.ndarray
    starts: np.ndarray
    frames: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    _file: BinaryIO = field(repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.numbers)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, track_id: int, start: int, stop: int) -> slice:
        """The rows of a track in frames from ``start`` to ``stop`` (exclusive)."""
        number = int(np.searchsorted(self.track_ids, track_id))
        first, last = int(self.starts[number]), int(self.starts[number + 1])
        begin, end = np.searchsorted(self.frames[first:last], (start, stop))
        return slice(first + int(begin), first + int(end))

    def read(self, frame: int) -> dict[int, Observation]:
        """The observations of a frame by track id, read from the file.

        Raises:
            InputError: the file has changed since it was indexed.
        """
        start, stop = (int(offset) for offset in self.offsets[frame : frame + 2])
        with self._lock:
            self._file.seek(start)
            line = self._file.read(stop - start)
        labels = {name: label for label, name in enumerate(self.video.class_names)}
        where = f"{self.path}, line {frame + 2}"
        return dict(read_frame(line, self.size, labels, frame, where).tracks)


def open_index(path: Path, folder: Path) -> TrackIndex:
    """Open the index of a ``tracks.jsonl``; it is built first if missing or outdated.

    Args:
        path: the file.
        folder: folder of the index.

    Raises:
        InputError: the file is missing or invalid, or the folder is not writable.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"tracks {path}: not readable ({error.strerror})") from error
    stamp = {"bytes": status.st_size, "modified": status.st_mtime_ns}
    found = _load(path, folder, stamp)
    if found is None:
        _build(path, folder, stamp)
        found = _load(path, folder, stamp)
    if found is None:
        raise InputError(f"{folder}: the index cannot be read back; check the disk")
    return found


def _load(path: Path, folder: Path, stamp: Mapping[str, int]) -> TrackIndex | None:
    """The stored index; None if it is missing, outdated or incomplete."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        if [about["format"], about["version"], about["file"]] != [_FORMAT, _VERSION, stamp]:
            return None
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in (*_OTHER_ARRAYS, *_COLUMNS)
        }
        video = VideoInfo(**about["video"])
        identity = ResultsIdentity(stamp["bytes"], about["sha256"])
        size = (about["size"][0], about["size"][1])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if {len(arrays[name]) for name in _COLUMNS} != {int(arrays["starts"][-1])}:
        return None
    return TrackIndex(path, identity, video, size, **arrays, _file=path.open("rb"))


class _IndexBuilder:
    """Collects the arrays of an index, frame by frame."""

    def __init__(self) -> None:
        self.offsets, self.numbers, self.seconds = array("q"), array("q"), array("d")
        self.tracks = array("q")
        self.columns: dict[str, array[Any]] = {name: array(code) for name, code in _COLUMNS.items()}

    def add(self, offset: int, frame: StoredFrame) -> None:
        """Add the next frame, whose line starts at ``offset`` bytes."""
        self.offsets.append(offset)
        self.numbers.append(frame.number)
        self.seconds.append(np.nan if frame.seconds is None else frame.seconds)
        observations = [observation for _, observation in frame.tracks]
        self.tracks.extend(track_id for track_id, _ in frame.tracks)
        self.columns["frames"].extend(frame.frame for _ in observations)
        self.columns["labels"].extend(each.label for each in observations)
        self.columns["scores"].extend(each.score for each in observations)
        areas = coco_mask.area([each.segmentation for each in observations])
        self.columns["areas"].extend(int(area) for area in areas)
        for each in observations:
            self.columns["boxes"].extend(each.box)

    def arrays(self, end: int) -> dict[str, np.ndarray]:
        """The arrays of ``TrackIndex``; ``end`` is the length of the file in bytes."""
        tracks = np.array(self.tracks, dtype=np.int64)
        order = np.argsort(tracks, kind="stable")  # keeps the order of frames within a track
        track_ids, starts = np.unique(tracks[order], return_index=True)
        columns = {name: np.array(values) for name, values in self.columns.items()}
        columns["boxes"] = columns["boxes"].reshape(-1, 4)
        return {
            "offsets": np.array([*self.offsets, end], dtype=np.int64),
            "numbers": np.array(self.numbers),
            "seconds": np.array(self.seconds),
            "track_ids": track_ids,
            "starts": np.append(starts, len(order)),
            **{name: values[order] for name, values in columns.items()},
        }


def _build(path: Path, folder: Path, stamp: Mapping[str, int]) -> None:
    digest, builder = hashlib.sha256(), _IndexBuilder()
    with path.open("rb") as file:
        total = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(0)
        first = file.readline()
        digest.update(first)
        end = len(first)
        video, size = read_header(first.removeprefix(BOM_UTF8), f"{path}, line 1")
        labels = {name: label for label, name in enumerate(video.class_names)}
        for index, line in enumerate(show_progress(file, f"Indexing {path.name}", total - 1)):
            digest.update(line)
            where = f"{path}, line {index + 2}"
            builder.add(end, read_frame(line, size, labels, index, where))
            end += len(line)
    if not builder.numbers:
        raise InputError(f"tracks {path}: contains no frame")
    with atomic_folder(folder) as temporary:
        for name, values in builder.arrays(end).items():
            np.save(temporary / f"{name}.npy", values, allow_pickle=False)
        about = {
            "format": _FORMAT,
            "version": _VERSION,
            "file": dict(stamp),
            "sha256": digest.hexdigest(),
            "video": asdict(video),
            "size": list(size),
        }
        write_json_atomically(temporary / _ABOUT, about)
