"""Result files: YouTube-VIS JSON and its zip, COCO JSON.

Entries use the category ids of the data set. ``category_ids`` maps the model's classes to them,
with None for classes that the data set lacks, whose detections are dropped.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.reading import RESULTS_NAME
from queryinst_vis.formats.track_store import Track, TrackStore
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import atomic_path


def youtube_vis_entries(
    tracks: TrackStore, video_id: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """The tracks of one video as YouTube-VIS results, one entry per track.

    Args:
        tracks: of a finished video.
        video_id: the data set's id of it.
        category_ids: the data set's id of each class, None for a class it lacks.

    Returns:
        ``{video_id, category_id, score, segmentations}``; the score is the mean over the frames
        of the track, the class its majority vote, and segmentations one RLE per frame of
        the video, None where the track is absent. Empty tracks are dropped.
    """
    entries = stream_youtube_vis_entries(tracks, video_id, category_ids)
    return [{**entry, "segmentations": list(entry["segmentations"])} for entry in entries]


def stream_youtube_vis_entries(
    tracks: TrackStore,
    video_id: int,
    category_ids: Sequence[int | None],
    with_times: bool = False,
    with_track_ids: bool = False,
) -> Iterator[dict[str, Any]]:
    """``youtube_vis_entries`` for videos of any length: segmentations are read from the store.

    ``write_results`` writes one mask at a time, so that memory does not grow with frames or
    tracks.

    Args:
        tracks: of the video.
        video_id: the data set's id of it.
        category_ids: the data set's id of each class, None for a class it lacks.
        with_times: add ``"seconds"``, the time of each frame, for variable frame rates.
        with_track_ids: add ``"track_id"``, as in the other files of the run.
    """
    times = {"seconds": _Times(tracks.frame_times())} if with_times else {}
    for track in tracks:
        category_id = category_ids[track.label]
        if category_id is not None and any(_has_pixels(rle) for _, rle in track.segmentations()):
            yield {
                "video_id": video_id,
                "category_id": category_id,
                "score": track.score,
                **({"track_id": track.track_id} if with_track_ids else {}),
                **times,
                "segmentations": _FrameMasks(track, tracks.length),
            }


class _Times(list[float | None]):
    """Times of frames, which all tracks of a video share."""

    @cached_property
    def json(self) -> str:
        return json.dumps(self)


@dataclass(frozen=True)
class _FrameMasks:
    """The masks of a track, one for each frame of the video; None where it is absent."""

    track: Track
    length: int

    def __iter__(self) -> Iterator[RLE | None]:
        for gap, rle in self._runs():
            yield from repeat(None, gap)
            if rle is not None:
                yield rle

    def json(self) -> Iterator[str]:
        """The JSON list in pieces; a long gap costs no more time than a short one."""
        yield "["
        separator = ""
        for gap, rle in self._runs():
            nulls = ["null, " * (gap - 1) + "null"] if gap else []
            masks = [] if rle is None else [json.dumps(rle)]
            for text in (*nulls, *masks):
                yield separator + text
                separator = ", "
        yield "]"

    def _runs(self) -> Iterator[tuple[int, RLE | None]]:
        """The masks with pixels, each after the number of frames without one; at last None."""
        following = 0
        for frame, rle in self.track.segmentations():
            if _has_pixels(rle):
                yield frame - following, rle
                following = frame + 1
        yield self.length - following, None


def _has_pixels(mask: RLE) -> bool:
    return bool(coco_mask.area(mask) > 0)


def coco_entries(
    image_id: int,
    category_ids: Sequence[int | None],
    labels: Sequence[int],
    scores: Sequence[float],
    boxes: Sequence[Sequence[float]],
    rles: Sequence[RLE] | None = None,
) -> list[dict[str, Any]]:
    """The N detections of one image as COCO results.

    Args:
        image_id: the data set's id of the image.
        category_ids: the data set's id of each class, None for a class it lacks.
        labels: N class indices.
        scores: N, 0..1.
        boxes: N times xyxy in pixels of the original image.
        rles: N masks, or None without masks.

    Returns:
        ``{image_id, category_id, score, bbox, segmentation}``; bbox is (x, y, width, height),
        not clipped to the image; segmentation is an RLE, missing without masks.
    """
    entries = []
    for row, (label, score, (x0, y0, x1, y1)) in enumerate(zip(labels, scores, boxes, strict=True)):
        if category_ids[label] is None:
            continue
        entry: dict[str, Any] = {
            "image_id": image_id,
            "category_id": category_ids[label],
            "score": score,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
        }
        if rles is not None:
            entry["segmentation"] = rles[row]
        entries.append(entry)
    return entries


def write_results(path: str | Path, entries: Iterable[dict[str, Any]]) -> None:
    """Write YouTube-VIS or COCO results as JSON, one entry per line, completely or not at all.

    Entries are written one at a time, so they may come from a generator or from
    ``stream_youtube_vis_entries``.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, entry in enumerate(entries):
            file.write(",\n" if number else "\n")
            file.writelines(_json_pieces(entry))
        file.write("\n]\n")


def _json_pieces(entry: dict[str, Any]) -> Iterator[str]:
    """The JSON of an entry, in parts if it is one of ``stream_youtube_vis_entries``."""
    masks = entry.get("segmentations")
    if not isinstance(masks, _FrameMasks):
        yield json.dumps(entry, allow_nan=False)
        return
    times = entry.get("seconds")
    head = {key: entry[key] for key in entry if key not in ("seconds", "segmentations")}
    yield json.dumps(head, allow_nan=False).removesuffix("}")
    if isinstance(times, _Times):
        yield f', "seconds": {times.json}'
    yield ', "segmentations": '
    yield from masks.json()
    yield "}"


def write_zip(json_path: str | Path, zip_path: str | Path) -> None:
    """Pack a result file for evaluation servers: ``results.json`` at the root of the zip.

    Raises:
        InputError: ``json_path`` does not exist or cannot be read.
    """
    if not Path(json_path).is_file():
        raise InputError(f"results {json_path}: no such file, so it cannot be zipped")
    with (
        atomic_path(zip_path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.write(json_path, RESULTS_NAME)
