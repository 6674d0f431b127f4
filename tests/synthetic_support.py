"""A generated synthetic set, as a reader finds it on disk."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from queryinst_vis.data.synthetic import PRESETS, SyntheticSettings

TINY = SyntheticSettings(videos=2, frames=3, width=64, height=48, max_objects=3)

BENCH, BENCH_SEED = PRESETS["bench"], 2026


class WrittenSet:
    """A folder that ``generate`` wrote, as a reader finds it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.content = json.loads((folder / "youtube_vis.json").read_text())
        self.videos = self.content["videos"]
        self.tracks = self.content["annotations"]
        self.class_names = [category["name"] for category in self.content["categories"]]

    def tracks_of(self, video):
        return [track for track in self.tracks if track["video_id"] == video["id"]]

    def image(self, name):
        return cv2.cvtColor(cv2.imread(str(self.folder / "frames" / name)), cv2.COLOR_BGR2RGB)

    def object_frames(self):
        return [rle for track in self.tracks for rle in track["segmentations"] if rle is not None]


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
