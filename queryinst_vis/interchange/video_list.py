"""The videos and classes that results speak of."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.inputs import GroundTruth, load_ground_truth
from queryinst_vis.evaluation.mask_tracks import Video, parse_video
from queryinst_vis.files import read_json


def read_video_list(path: str | Path) -> GroundTruth:
    """Read videos and categories of a YouTube-VIS file; its annotations, if any, stay aside.

    So the public validation and test files will do, which have none.

    Raises:
        InputError: unreadable, or without consistent videos and categories.
    """
    content = read_json(path, "video set")
    if not isinstance(content, dict):
        raise InputError(
            f"video set {path}: is a {type(content).__name__}, not an object with `videos` and"
            " `categories`; name the ground truth file after --gt"
        )
    return load_ground_truth({**content, "annotations": []}, "video", ())


def videos_of(truth: GroundTruth) -> dict[int, Video]:
    """The videos by their id, in the order of the file.

    Raises:
        InputError: a video has no proper size or length.
    """
    return {id_: parse_video(entry, f"video {id_}") for id_, entry in truth.media.items()}
