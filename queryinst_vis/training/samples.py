"""Pictures of what a model in training finds, beside what is annotated."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from queryinst_vis.config import DatasetConfig
from queryinst_vis.data.tools.shown_frames import (
    ShownTrack,
    annotated_tracks,
    read_frames,
)
from queryinst_vis.drawing import Overlay
from queryinst_vis.formats.annotation_set import Video, open_set
from queryinst_vis.visualization.contact_sheet import ContactSheet

SCORE = 0.3  # below, results are not drawn
_TILE_WIDTH, _COLUMNS = 320, 4


class SampleSheet:
    """Draws some pictures of a set, each with its annotations and with results for it.

    The pictures are spread over the set and the same every time. Of a video it is the middle
    frame.

    Args:
        data: the set, whose files exist.
        count: number of pictures, at least 1; a smaller set shows them all.
    """

    def __init__(self, data: DatasetConfig, count: int) -> None:
        self._images, self._allow_outside = Path(str(data.images)), data.allow_outside
        self._set = open_set(str(data.annotations))
        videos = list(self._set.videos.values())
        chosen = np.linspace(0, len(videos) - 1, min(count, len(videos))).round().astype(int)
        self._shown = [videos[index] for index in chosen]

    def write(self, path: Path, entries: list[dict[str, Any]]) -> None:
        """Write the sheet.

        Args:
            path: a ``.jpg``.
            entries: of a COCO or YouTube-VIS result file for the set.

        Raises:
            InputError: an image cannot be read or the sheet not be written.
        """
        grouped: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for number, entry in enumerate(entries):
            grouped[entry[f"{self._set.kind}_id"]].append({**entry, "id": number})
        sheet = ContactSheet(_COLUMNS)
        for video in self._shown:
            found = self._found(grouped[video.id])
            truth = annotated_tracks(self._set, video)
            for what, tracks in (("annotated", truth), (f"found, score {SCORE} and more", found)):
                sheet.add(self._draw(video, tracks), f"{Path(video.name).name}: {what}")
        path.parent.mkdir(exist_ok=True)
        sheet.write(path)

    def _found(self, entries: list[dict[str, Any]]) -> list[ShownTrack]:
        """The results for one video or image that are sure enough to be drawn."""
        sure = [entry for entry in entries if entry["score"] >= SCORE]
        return [
            ShownTrack(
                number,
                self._set.categories[entry["category_id"]],
                entry["score"],
                entry.get("segmentations", [entry.get("segmentation")]),
                {0: entry["bbox"]} if "bbox" in entry else {},
            )
            for number, entry in enumerate(sure)
        ]

    def _draw(self, video: Video, tracks: list[ShownTrack]) -> np.ndarray:
        class_names = sorted({track.class_name for track in tracks})
        middle = range(video.length // 2, video.length // 2 + 1)
        [(_, picture, found)] = read_frames(
            video, tracks, class_names, self._images, middle, _TILE_WIDTH, self._allow_outside
        )
        return Overlay(class_names, trace_length=1).draw(picture, found)
