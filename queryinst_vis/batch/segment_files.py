"""Results of a video's segments, stored until the segments are joined.

``OUT/segments/KEY/SEGMENT.parquet`` has the instances of a segment, with track ids of its own.
``SEGMENT.json`` has its metadata and is written last. Both are deleted once the video is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from queryinst_vis.batch.decoder_process import DamagedFrames, DecodeWarning
from queryinst_vis.batch.segments import Cut, Segment
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import id_of_key
from queryinst_vis.formats.track_tables import Row, write_parquet
from queryinst_vis.inference.result import FrameResult, masks_or_boxes
from queryinst_vis.inference.video_runs import Results

FOLDER = "segments"

_COLUMNS = {
    "frame": "int64",
    "seconds": "float64",
    "is_damaged": "bool",
    "has_masks": "bool",
    "track_id": "int64",
    "label": "int64",
    "score": "float64",
    "x1": "float64",
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
    "rle": "string",
    "embedding": "binary",
}
"""One row per instance, in the detector's order; a frame without instances has one row without
``track_id``. ``embedding`` is float32, and null in frames that do not need it."""

_ROWS = 10_000  # per read


@dataclass
class SegmentInfo:
    """Metadata of a tracked segment.

    Attributes:
        frames: number of frames from ``Segment.owned`` on.
        order: track ids by first appearance in these frames.
        class_names: class name of each label.
        size: ``(height, width)`` of the frames.
        fps, pixel_aspect: as for ``Source``; the latter as text.
        precision: of the network.
        warnings: from decoding.
        seconds: processing time by stage.
    """

    frames: int
    order: list[int]
    class_names: list[str]
    size: tuple[int, int]
    fps: float | None
    pixel_aspect: str
    precision: str | None
    warnings: list[DecodeWarning]
    seconds: Mapping[str, float]


class RecordedFrame(NamedTuple):
    """A stored frame of a segment; ``instances`` are rows of ``_COLUMNS``.

    Without ``has_masks`` the detector returned only boxes, and the masks are these.
    """

    number: int
    seconds: float | None
    is_damaged: bool
    has_masks: bool
    instances: list[Row]


class SegmentRecorder:
    """Writes the instances of a segment, and collects its metadata on the way.

    Args:
        segment: which is being tracked.
        keep_embeddings: store the embeddings of all frames, not only of the overlaps.

    Attributes:
        frames, order, size: as for ``SegmentInfo``, complete after ``write``.
    """

    def __init__(self, segment: Segment, keep_embeddings: bool) -> None:
        self.frames = 0
        self.order: list[int] = []
        self.size = (0, 0)
        self._segment = segment
        self._keep_embeddings = keep_embeddings
        self._seen: set[int] = set()

    def write(self, path: Path, results: Results) -> None:
        """Write the results to a Parquet file as they arrive."""
        rows = (row for result in results for row in self._rows_of(result))
        write_parquet(path, _COLUMNS, rows)

    def _rows_of(self, result: FrameResult) -> Iterator[Row]:
        found = result.detections
        self.size = found.image_size
        assert found.track_ids is not None
        ids = found.track_ids.tolist()
        if result.index >= self._segment.owned:
            self.frames += 1
            self.order += [track_id for track_id in ids if track_id not in self._seen]
            self._seen.update(ids)
        embeddings = None
        is_needed = self._keep_embeddings or self._segment.is_shared(result.index)
        if found.embeddings is not None and is_needed:
            embeddings = found.embeddings.detach().float().cpu().numpy()
        head = {
            "frame": result.index,
            "seconds": result.seconds,
            "is_damaged": found.of_damaged_frame,
            "has_masks": found.has_masks,
        }
        if not ids:
            yield head
        columns = ids, found.labels.tolist(), found.scores.tolist(), found.boxes.tolist()
        rows = zip(*columns, masks_or_boxes(found), strict=True)
        for row, (track_id, label, score, box, rle) in enumerate(rows):
            yield {
                **head,
                "track_id": track_id,
                "label": label,
                "score": score,
                **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                "rle": rle["counts"],
                "embedding": None if embeddings is None else embeddings[row].tobytes(),
            }


def put_segment(store: Store, key: str, segment: Segment, rows: Path, info: SegmentInfo) -> None:
    """Store a segment, which from then on counts as tracked."""
    name = _name(key, segment)
    store.put(rows, f"{name}.parquet")
    store.put_bytes(json.dumps(asdict(info)).encode(), f"{name}.json")


def tracked_segments(store: Store, key: str, cut: Cut) -> frozenset[int]:
    """The indices of the segments that have been tracked."""
    stored = {f"{FOLDER}/{key}/{name}" for name in store.list(f"{FOLDER}/{key}")}
    return frozenset(
        segment.index for segment in cut.segments if f"{_name(key, segment)}.json" in stored
    )


def read_info(store: Store, key: str, segment: Segment) -> SegmentInfo:
    """The metadata of a tracked segment."""
    data = store.read(f"{_name(key, segment)}.json")
    if data is None:
        raise FileNotFoundError(f"{store.name}: {_name(key, segment)}.json is missing")
    values: dict[str, Any] = json.loads(data)
    values["warnings"] = [
        each if isinstance(each, str) else DamagedFrames(*each) for each in values["warnings"]
    ]
    return SegmentInfo(**{**values, "size": tuple(values["size"])})


def read_frames(
    store: Store, key: str, segment: Segment, *, only_shared: bool = False
) -> Iterator[RecordedFrame]:
    """The frames of a tracked segment, or only those in its overlaps with other segments."""
    import pyarrow.compute

    def rows() -> Iterator[Row]:
        file = store.open_parquet(f"{_name(key, segment)}.parquet")
        for batch in file.iter_batches(_ROWS):
            if only_shared:
                is_shared = map(segment.is_shared, batch.column("frame").to_pylist())
                batch = batch.filter(pyarrow.array(is_shared, pyarrow.bool_()))
            yield from batch.to_pylist()

    for number, group in groupby(rows(), key=itemgetter("frame")):
        found = list(group)
        instances = [row for row in found if row["track_id"] is not None]
        first = found[0]
        yield RecordedFrame(
            number, first["seconds"], first["is_damaged"], first["has_masks"], instances
        )


def embeddings_of(instances: list[Row]) -> np.ndarray | None:
    """Embeddings ``(N, D)``, float32; None if there are no instances or not all have one."""
    if not instances or any(row["embedding"] is None for row in instances):
        return None
    return np.stack([np.frombuffer(row["embedding"], np.float32) for row in instances])


def remove_segments(store: Store, key: str) -> None:
    """Delete the stored segments of a video."""
    for name in store.list(f"{FOLDER}/{key}"):  # sorted: .json before .parquet
        store.delete(f"{FOLDER}/{key}/{name}")


def remove_stale_segments(store: Store, done: Set[str], keys: Set[str] = frozenset()) -> None:
    """Delete the segments of completed videos, and of outdated versions of a run's videos.

    Args:
        store: the data set.
        done: keys of the completed videos.
        keys: of the videos to track; other keys of the same videos are outdated.
    """
    ids = {id_of_key(key) for key in keys}
    for key in {name.partition("/")[0] for name in store.list(FOLDER, recursive=True)}:
        if key in done or (id_of_key(key) in ids and key not in keys):
            remove_segments(store, key)


def _name(key: str, segment: Segment) -> str:
    frames = f"{segment.first}-{segment.owned}-{segment.shared}-{segment.stop}"
    return f"{FOLDER}/{key}/{segment.index:05d}_{frames}"
