"""The videos and classes that results speak of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.inputs import GroundTruth, load_ground_truth
from queryinst_vis.formats.mask_tracks import Video, parse_video
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.utils.files import read_json


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
        content = read_json(path, "video set")
        if not isinstance(content, dict):
            raise InputError(
                f"video set {path}: is a {type(content).__name__}, not an object with `videos` and"
                " `categories`; name the ground truth file after --gt"
            )
        self._content = {**content, "annotations": []}
        truth: GroundTruth = load_ground_truth(self._content, "video", ())
        self.categories = truth.categories
        self.videos: dict[int, Video] = {
            id_: parse_video(entry, f"video set {path}: video {id_}")
            for id_, entry in truth.media.items()
        }
        self.file_names: dict[int, list[str]] = {
            id_: [str(name) for name in truth.media[id_].get("file_names", [""] * video.length)]
            for id_, video in self.videos.items()
        }

    def with_results(self, results: str | Path | list[dict[str, Any]]) -> VideoSet:
        """YouTube-VIS results, checked, video by video.

        Raises:
            InputError: they cannot be used with these videos and categories.
        """
        return VideoSet(self._content, results)
