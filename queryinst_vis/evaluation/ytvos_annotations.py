"""``YTVOS``: annotations with the interface (and camel case) of YouTube-VIS's API."""

# ruff: noqa: N802, N803

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import Video, check_ids, parse_video
from queryinst_vis.formats.annotations import decode_masks, is_one_per_frame, without_empty
from queryinst_vis.formats.findings import Place, Report, refuse_faults
from queryinst_vis.formats.predictions import parse_entries
from queryinst_vis.formats.reading import read_json_or_zip
from queryinst_vis.masks import RLE, decode_rle, to_rle
from queryinst_vis.utils.files import read_json

Ids = int | Iterable[int]


class YTVOS:
    """Annotations or results of a set of videos, in memory.

    Attributes:
        dataset: the file's content: ``videos``, ``categories``, ``annotations``, ...
        anns, cats, vids: annotation, category and video entries by id.
        vidToAnns: annotations by video id.
        catToVids: video ids by category id, once for each annotation.

    Example::

        ground_truth = YTVOS("ground_truth.json")
        for ann_id in ground_truth.getAnnIds(vidIds=ground_truth.getVidIds()[:1]):
            print(ground_truth.loadAnns([ann_id])[0]["category_id"])
    """

    def __init__(self, annotation_file: str | Path | dict | None = None) -> None:
        """Read a JSON file, use its content, or start empty.

        Raises:
            InputError: the file is missing, not JSON, or its root is not an object.
        """
        self.dataset: dict[str, Any] = {}
        if isinstance(annotation_file, dict):
            self.dataset = annotation_file
        elif annotation_file is not None:
            self.dataset = read_json(annotation_file, "annotations")
        if not isinstance(self.dataset, dict):
            found = type(self.dataset).__name__
            raise InputError(f"annotations {annotation_file}: must be an object, is a {found}")
        self.createIndex()

    def createIndex(self) -> None:
        """Fill the attributes from ``dataset``.

        Raises:
            InputError: an entry has no valid ids.
        """
        self.anns, self.cats, self.vids = (
            self._by_id(name) for name in ("annotations", "categories", "videos")
        )
        self.vidToAnns: dict[int, list[dict]] = defaultdict(list)
        self.catToVids: dict[int, list[int]] = defaultdict(list)
        for annotation in self.anns.values():
            try:
                self.vidToAnns[annotation["video_id"]].append(annotation)
                self.catToVids[annotation["category_id"]].append(annotation["video_id"])
            except (KeyError, TypeError) as error:
                place = f"annotation {annotation['id']}"
                raise InputError(f"{place}: has no valid `video_id` and `category_id`") from error

    def _by_id(self, name: str) -> dict[int, dict]:
        entries = self.dataset.get(name, [])
        try:
            return {entry["id"]: entry for entry in entries}
        except (KeyError, TypeError) as error:
            raise InputError(f"`{name}` must be a list of objects with an `id`") from error

    def info(self) -> None:
        """Print the ``info`` of the file."""
        for key, value in self.dataset.get("info", {}).items():
            print(f"{key}: {value}")

    def getAnnIds(
        self,
        vidIds: Ids = (),
        catIds: Ids = (),
        areaRng: Iterable[float] = (),
        iscrowd: bool | None = None,
    ) -> list[int]:
        """Ids of the annotations of the given videos and classes; empty means all.

        Args:
            vidIds: one or several video ids.
            catIds: one or several category ids.
            areaRng: bounds of the mean mask area in pixels, both exclusive.
            iscrowd: True: crowds only; False: no crowds; None: both.
        """
        videos, classes, bounds = _as_list(vidIds), _as_list(catIds), list(areaRng)
        found = (
            [annotation for video in videos for annotation in self.vidToAnns.get(video, [])]
            if videos
            else list(self.anns.values())
        )
        return [
            annotation["id"]
            for annotation in found
            if (not classes or annotation["category_id"] in classes)
            and (not bounds or bounds[0] < self._mean_area(annotation) < bounds[1])
            and (iscrowd is None or bool(annotation.get("iscrowd", 0)) == bool(iscrowd))
        ]

    def _mean_area(self, annotation: dict) -> float:
        """Mean area over the frames with the object, from its ``areas`` or else its masks."""
        areas = annotation.get("areas")
        if areas is None:
            video = self._video(annotation["video_id"])
            places = [{"annotation": annotation["id"]}]
            [measured] = _areas_and_boxes([annotation], video, places, refuse_faults("annotations"))
            areas = measured["areas"]
        shown = [area for area in areas if area]
        return float(np.mean(shown)) if shown else 0.0

    def getCatIds(
        self,
        catNms: str | Iterable[str] = (),
        supNms: str | Iterable[str] = (),
        catIds: Ids = (),
    ) -> list[int]:
        """Ids of the classes with the given names, super-class names and ids; empty means all."""
        names, parents, ids = _as_list(catNms), _as_list(supNms), _as_list(catIds)
        return [
            category["id"]
            for category in self.cats.values()
            if (not names or category.get("name") in names)
            and (not parents or category.get("supercategory") in parents)
            and (not ids or category["id"] in ids)
        ]

    def getVidIds(self, vidIds: Ids = (), catIds: Ids = ()) -> list[int]:
        """Ids of the videos among ``vidIds`` that contain all of ``catIds``; empty means all."""
        videos, classes = _as_list(vidIds), _as_list(catIds)
        found = set(videos) if videos else set(self.vids)
        for category in classes:
            found &= set(self.catToVids.get(category, []))
        return [video for video in self.vids if video in found]

    def loadAnns(self, ids: Ids = ()) -> list[dict]:
        """The annotations with these ids."""
        return [self.anns[id_] for id_ in _as_list(ids)]

    def loadCats(self, ids: Ids = ()) -> list[dict]:
        """The categories with these ids."""
        return [self.cats[id_] for id_ in _as_list(ids)]

    def loadVids(self, ids: Ids = ()) -> list[dict]:
        """The videos with these ids."""
        return [self.vids[id_] for id_ in _as_list(ids)]

    def loadRes(self, resFile: str | Path | list[dict]) -> YTVOS:
        """Results for these videos, with ids starting at 1, ``areas``, ``avg_area`` and ``bboxes``.

        Args:
            resFile: a JSON path, a zip with ``results.json``, or a list, which is not modified.

        Raises:
            InputError: there are no results, a mask is invalid, or a video is unknown.
        """
        content = read_json_or_zip(resFile) if isinstance(resFile, str | Path) else resFile
        report = refuse_faults("results")
        by_video: dict[int, list[dict]] = defaultdict(list)
        for entry in parse_entries(content, report, "video"):
            tables = {"video_id": self.vids}
            check_ids(entry, tables, "in the annotations", {"entry": entry["id"]}, report)
            by_video[entry["video_id"]].append(entry)
        annotations = []
        for video_id, entries in by_video.items():
            places = [{"entry": entry["id"]} for entry in entries]
            measured = _areas_and_boxes(entries, self._video(video_id), places, report)
            annotations += [
                {**entry, "id": entry["id"] + 1, "iscrowd": 0, **found}
                for entry, found in zip(entries, measured, strict=True)
            ]
        annotations.sort(key=lambda annotation: annotation["id"])
        for annotation in annotations:
            annotation["avg_area"] = self._mean_area(annotation)
        shared = {key: self.dataset.get(key, []) for key in ("videos", "categories")}
        return YTVOS({**shared, "annotations": annotations})

    def _video(self, video_id: int) -> Video:
        video = parse_video(self.vids[video_id], "video", refuse_faults("annotations"))
        assert video is not None  # otherwise ``report`` has raised
        return video

    def annToRLE(self, ann: dict, frameId: int) -> RLE:
        """The mask of an annotation in one frame as compressed RLE.

        Raises:
            InputError: there is none, or it is invalid.
        """
        video = self._video(ann["video_id"])
        where = f"annotation {ann.get('id')}, frame {frameId}"
        return to_rle(ann["segmentations"][frameId], video.height, video.width, where)

    def annToMask(self, ann: dict, frameId: int) -> np.ndarray:
        """The mask of an annotation in one frame, ``(height, width)`` uint8; see ``annToRLE``."""
        return decode_rle(self.annToRLE(ann, frameId)).astype(np.uint8)


def _areas_and_boxes(
    entries: Sequence[dict], video: Video, places: Sequence[Place], report: Report
) -> list[dict[str, list]]:
    """``areas`` in pixels and ``bboxes`` (x, y, width, height) of each entry, None if absent."""
    tracks = [
        without_empty(entry["segmentations"], video, place, report)
        for entry, place in zip(entries, places, strict=True)
        if is_one_per_frame(entry.get("segmentations"), "segmentations", video, place, report)
    ]
    return [
        {
            "areas": [int(size) if mask else None for mask, size in zip(masks, sizes, strict=True)],
            "bboxes": [coco_mask.toBbox(mask).tolist() if mask else None for mask in masks],
        }
        for masks, sizes, _ in decode_masks(tracks, video, places, report)
    ]


def _as_list(values: Any) -> list:
    """A single value or several, as a list."""
    return [values] if isinstance(values, str | int | np.integer) else list(values)
