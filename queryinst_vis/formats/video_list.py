"""The videos and classes that results speak of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.formats.annotation_set import parse_set
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.formats.video_set import VideoSet


class VideoList:
    """Videos and categories of a YouTube-VIS file; its annotations, if any, stay aside.

    So the public validation and test files will do, which have none.

    Attributes:
        videos: by id, in the order of the file.
        file_names: of each video's frames, by video id; empty texts where the file has none.
        categories: class name by category id, ids ascending.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Raises:
            InputError: unreadable, or without consistent videos and categories.
        """
        where = f"video set {path}"
        content = {**read_annotations(path, "video set"), "annotations": []}
        self._annotation_set = parse_set(content, refuse_faults(where), where, "video")
        self.categories = dict(sorted(self._annotation_set.categories.items()))
        self.videos = self._annotation_set.videos
        self.file_names: dict[int, list[str]] = {
            id_: video.file_names or [""] * video.length for id_, video in self.videos.items()
        }

    def with_results(self, results: str | Path | list[dict[str, Any]]) -> VideoSet:
        """YouTube-VIS results, checked, video by video.

        Raises:
            InputError: they cannot be used with these videos and categories.
        """
        return VideoSet(self._annotation_set, results)
