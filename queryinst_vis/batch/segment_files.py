"""What is kept of the segments of a video until their identities are joined.

``OUT/segments/KEY/SEGMENT.parquet`` has the instances of a segment, with the segment's own
identities, and ``SEGMENT.json``, which is written last, what else is known of it. They are removed
once the video is done.
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

from queryinst_vis.batch.decoder_process import DamagedFrames, Note
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
"""A row for each instance, in the order of the detector; a frame without any has a row without
``track_id``. Embeddings, float32, are kept where they will be needed."""

_ROWS = 10_000  # that are read at a time


@dataclass
class SegmentNote:
    """What is known of a tracked segment beside its instances.

    Attributes:
        frames: number of its own frames.
        order: identities in the order in which they appear in its own frames.
        class_names: names of the labels.
        size: ``(height, width)`` of the frames.
        fps, pixel_aspect: as for ``Source``; the latter as text.
        has_masks: whether the detector gave masks, or only boxes.
        precision: of the network.
        warnings: from decoding.
        seconds: by stage.
    """

    frames: int
    order: list[int]
    class_names: list[str]
    size: tuple[int, int]
    fps: float | None
    pixel_aspect: str
    has_masks: bool
    precision: str | None
    warnings: list[Note]
    seconds: Mapping[str, float]


class RecordedFrame(NamedTuple):
    """A frame of a segment with its instances, as ``_COLUMNS`` have them."""

    number: int
    seconds: float | None
    is_damaged: bool
    instances: list[Row]


class SegmentRows:
    """The rows of a segment's results.

    Args:
        segment: whose they are.
        keep_embeddings: of all frames, and not only of those shared with its neighbours.

    Attributes:
        frames, order, size, has_masks: as for ``SegmentNote``, once all rows have been taken.
    """

    def __init__(self, segment: Segment, keep_embeddings: bool) -> None:
        self.frames = 0
        self.order: list[int] = []
        self.size = (0, 0)
        self.has_masks = True
        self._segment = segment
        self._keep_embeddings = keep_embeddings
        self._seen: set[int] = set()

    def of(self, results: Results) -> Iterator[Row]:
        """The rows, as the results come."""
        for result in results:
            found = result.detections
            self.size = found.image_size
            self.has_masks = found.has_masks
            yield from self._of_frame(result)

    def _of_frame(self, result: FrameResult) -> Iterator[Row]:
        found, segment = result.detections, self._segment
        head = {
            "frame": result.index,
            "seconds": result.seconds,
            "is_damaged": found.of_damaged_frame,
        }
        assert found.track_ids is not None
        ids = found.track_ids.tolist()
        if result.index >= segment.owned:
            self.frames += 1
            self.order += [track_id for track_id in ids if track_id not in self._seen]
            self._seen.update(ids)
        if not ids:
            yield head
        is_shared = result.index < segment.owned or result.index >= segment.shared
        embeddings = None
        if found.embeddings is not None and (is_shared or self._keep_embeddings):
            embeddings = found.embeddings.detach().float().cpu().numpy()
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


def write_rows(path: Path, rows: Iterator[Row]) -> None:
    """Write the rows of a segment to a file."""
    write_parquet(path, _COLUMNS, rows)


def put_segment(store: Store, key: str, segment: Segment, rows: Path, note: SegmentNote) -> None:
    """Keep a segment; it counts as tracked from then on."""
    name = _name(key, segment)
    store.put(rows, f"{name}.parquet")
    store.put_bytes(json.dumps(asdict(note)).encode(), f"{name}.json")


def tracked_segments(store: Store, key: str, cut: Cut) -> frozenset[int]:
    """The indices of the segments that have been tracked."""
    there = {f"{FOLDER}/{key}/{name}" for name in store.list(f"{FOLDER}/{key}")}
    return frozenset(
        segment.index for segment in cut.segments if f"{_name(key, segment)}.json" in there
    )


def read_note(store: Store, key: str, segment: Segment) -> SegmentNote:
    """What is known of a segment that has been tracked."""
    data = store.read(f"{_name(key, segment)}.json")
    if data is None:
        raise FileNotFoundError(f"{store.name}: {_name(key, segment)}.json has gone")
    values: dict[str, Any] = json.loads(data)
    values["warnings"] = [
        each if isinstance(each, str) else DamagedFrames(*each) for each in values["warnings"]
    ]
    return SegmentNote(**{**values, "size": tuple(values["size"])})


def read_frames(
    store: Store, key: str, segment: Segment, *, only_shared: bool = False
) -> Iterator[RecordedFrame]:
    """The frames of a segment that has been tracked, or only those shared with its neighbours."""
    import pyarrow.compute

    def rows() -> Iterator[Row]:
        file = store.open_parquet(f"{_name(key, segment)}.parquet")
        for batch in file.iter_batches(_ROWS):
            if only_shared:
                numbers = batch.column("frame").to_numpy()
                is_shared = (numbers < segment.owned) | (numbers >= segment.shared)
                batch = batch.filter(pyarrow.array(is_shared))
            yield from batch.to_pylist()

    for number, group in groupby(rows(), key=itemgetter("frame")):
        found = list(group)
        instances = [row for row in found if row["track_id"] is not None]
        yield RecordedFrame(number, found[0]["seconds"], found[0]["is_damaged"], instances)


def embeddings_of(instances: list[Row]) -> np.ndarray | None:
    """``(N, D)`` float32; None where they were not kept, or there are none."""
    if not instances or any(row["embedding"] is None for row in instances):
        return None
    return np.stack([np.frombuffer(row["embedding"], np.float32) for row in instances])


def remove_segments(store: Store, key: str) -> None:
    """Remove what is kept of the segments of a video."""
    for name in store.list(f"{FOLDER}/{key}"):  # sorted, so that .json goes before .parquet
        store.delete(f"{FOLDER}/{key}/{name}")


def remove_stale_segments(store: Store, done: Set[str], keys: Set[str] = frozenset()) -> None:
    """Remove the segments of videos that are done, and of other versions of those of a run.

    Args:
        store: with the data set.
        done: keys of the videos that are done.
        keys: of the videos that the run is going to track.
    """
    ids = {id_of_key(key) for key in keys}
    for key in {name.partition("/")[0] for name in store.list(FOLDER, recursive=True)}:
        if key in done or (id_of_key(key) in ids and key not in keys):
            remove_segments(store, key)


def _name(key: str, segment: Segment) -> str:
    frames = f"{segment.first}-{segment.owned}-{segment.shared}-{segment.stop}"
    return f"{FOLDER}/{key}/{segment.index:05d}_{frames}"
