"""Result files: YouTube-VIS JSON and its zip, COCO JSON.

Entries hold the data set's own category ids. ``category_ids`` translates: it is parallel to
the model's class names and holds None for a class that the data set lacks, whose detections
are left out.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.inputs import RESULTS_NAME, read_results
from queryinst_vis.formats.track_store import StoredTrack, TrackStore
from queryinst_vis.masks import RLE
from queryinst_vis.structures import Detections, VideoResult
from queryinst_vis.utils.files import atomic_path

__all__ = [
    "coco_entries",
    "read_results",
    "write_coco",
    "write_tracks",
    "write_youtube_vis",
    "write_zip",
    "youtube_vis_entries",
]


def youtube_vis_entries(
    result: VideoResult, video_id: int, category_ids: Sequence[int | None]
) -> Iterator[dict[str, Any]]:
    """The tracks of one video as YouTube-VIS results, one entry per track, made one by one.

    Args:
        result: a finished video.
        video_id: the data set's id of it.
        category_ids: the data set's id of each class, None for a class it lacks.

    Returns:
        ``{video_id, category_id, score, segmentations}``; the score is the mean over the frames
        that show the track, the class its majority vote, and segmentations one RLE per frame of
        the video, None where the track is absent. A track without a single pixel is left out.
    """
    for track in result:
        category_id = category_ids[track.label]
        masks = [_none_if_empty(track.segmentations.get(i)) for i in range(result.length)]
        if category_id is not None and any(masks):
            yield {
                "video_id": video_id,
                "category_id": category_id,
                "score": track.score,
                "segmentations": masks,
            }


def _none_if_empty(mask: RLE | None) -> RLE | None:
    return mask if mask is not None and _has_pixels(mask) else None


def _has_pixels(mask: RLE) -> bool:
    return coco_mask.area(mask) > 0


def coco_entries(
    detections: Detections, image_id: int, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """The detections of one image as COCO results.

    Args:
        detections: in pixels of the original image.
        image_id: the data set's id of it.
        category_ids: the data set's id of each class, None for a class it lacks.

    Returns:
        ``{image_id, category_id, score, bbox, segmentation}``; bbox is (x, y, width, height),
        not clipped to the image; segmentation an RLE, absent where the model has no masks.
    """
    ids = [category_ids[label] for label in detections.labels.tolist()]
    known = [index for index, category_id in enumerate(ids) if category_id is not None]
    detections = detections[known]
    entries = [
        {
            "image_id": image_id,
            "category_id": ids[index],
            "score": score,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
        }
        for index, score, (x0, y0, x1, y1) in zip(
            known, detections.scores.tolist(), detections.boxes.tolist(), strict=True
        )
    ]
    if detections.mask_logits is not None:
        for entry, rle in zip(entries, detections.rles(), strict=True):
            entry["segmentation"] = rle
    return entries


def write_youtube_vis(path: str | Path, results: Iterable[dict[str, Any]]) -> None:
    """Write YouTube-VIS results as JSON; they are taken one by one, so a generator will do."""
    _write_entries(path, results)


def write_coco(path: str | Path, entries: Iterable[dict[str, Any]]) -> None:
    """Write COCO results as JSON; they are taken one by one, so a generator will do."""
    _write_entries(path, entries)


def _write_entries(path: str | Path, entries: Iterable[dict[str, Any]]) -> None:
    _write_list(path, ([json.dumps(entry, allow_nan=False)] for entry in entries))


def write_tracks(
    path: str | Path, tracks: TrackStore, video_id: int, category_ids: Sequence[int | None]
) -> None:
    """Write a video of any length as YouTube-VIS results, mask after mask.

    The file holds what ``write_youtube_vis`` would write of ``youtube_vis_entries``, whose
    arguments these are; memory grows with neither the frames nor the tracks.
    """
    shown = (track for track in tracks if category_ids[track.label] is not None)
    shown = (track for track in shown if any(_has_pixels(rle) for _, rle in track.segmentations()))
    _write_list(
        path,
        (_entry_text(track, tracks.length, video_id, category_ids[track.label]) for track in shown),
    )


def _entry_text(track: StoredTrack, length: int, video_id: int, category_id: int) -> Iterator[str]:
    head = {"video_id": video_id, "category_id": category_id, "score": track.score}
    yield json.dumps(head, allow_nan=False).removesuffix("}") + ', "segmentations": ['
    for index, text in enumerate(_mask_texts(track, length)):
        yield ", " + text if index else text
    yield "]}"


def _mask_texts(track: StoredTrack, length: int) -> Iterator[str]:
    """The JSON of every frame's mask, null where there is none."""
    written = 0
    for frame, rle in track.segmentations():
        yield from repeat("null", frame - written)
        yield json.dumps(_none_if_empty(rle))
        written = frame + 1
    yield from repeat("null", length - written)


def _write_list(path: str | Path, entries: Iterable[Iterable[str]]) -> None:
    """A JSON list with one entry a line, each given in pieces; all of it or nothing."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, pieces in enumerate(entries):
            file.write(",\n" if number else "\n")
            file.writelines(pieces)
        file.write("\n]\n")


def write_zip(json_path: str | Path, zip_path: str | Path) -> None:
    """Pack a result file as evaluation servers want it: ``results.json`` at the zip's root.

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
