"""``tracks.jsonl``: the tracks of one video in a self-contained file, with one line per frame.

The first line is a header::

    {"format": "queryinst-vis tracks", "version": 1, "video": {"name": "street", "width": 640,
     "height": 360, "fps": 25.0}, "classes": ["person"], ...}

``fps`` is null if the frame rate is variable. Every further line is a frame, including those
without detections::

    {"frame": 12, "seconds": 0.48, "instances": [{"track_id": 3, "class_name": "person",
     "score": 0.93, "box": [x1, y1, x2, y2],
     "segmentation": {"size": [360, 640], "counts": "..."}}]}

``frame`` is the frame number in the video, from 0; boxes are in pixels. A frame that could not be
decoded has ``"damaged": true`` and no instances.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import require, shortened
from queryinst_vis.formats.track_store import Observation, StoredFrame, TrackStore, VideoInfo
from queryinst_vis.masks import to_rles
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.numbers import are_finite, is_finite

FORMAT = "queryinst-vis tracks"
VERSION = 1

_LARGEST = 2**63 - 1  # maximum track id or frame number


def write_track_lines(
    path: str | Path, tracks: TrackStore, video: VideoInfo, about: Mapping[str, Any] | None = None
) -> None:
    """Write the tracks of a video, one line per frame; memory does not grow with the video.

    Args:
        path: the file; written completely or not at all.
        tracks: of the video.
        video: the video.
        about: further fields of the header: weights, options, ...
    """
    height, width = tracks.frame_size
    header = {
        "format": FORMAT,
        "version": VERSION,
        "video": {"name": video.name, "width": width, "height": height, "fps": video.fps},
        "classes": video.class_names,
        **(about or {}),
    }
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(header, allow_nan=False) + "\n")
        for frame in tracks.frames():
            line = json.dumps(_line(frame, video.class_names), allow_nan=False)
            file.write(line + "\n")


def is_track_lines(path: Path) -> bool:
    """Whether a file starts with the header of ``write_track_lines``."""
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.readline(1000)
    except OSError:
        return False


def read_track_lines(path: str | Path, tracks: TrackStore) -> VideoInfo:
    """Read a file of ``write_track_lines``.

    Args:
        path: the file.
        tracks: empty; is filled, on disk, so that memory does not grow with the video.

    Returns:
        The video of the header.

    Raises:
        InputError: no such file, another format or version, or an invalid line, with its number.
    """
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            video, size = read_header(file.readline(), f"{path}, line 1")
            labels = {name: label for label, name in enumerate(video.class_names)}
            for index, line in enumerate(file):
                _add(
                    tracks, size, read_frame(line, size, labels, index, f"{path}, line {index + 2}")
                )
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise InputError(f"tracks {path}: not readable ({reason})") from error
    if tracks.length == 0:
        raise InputError(f"tracks {path}: contains no frame")
    return video


def _add(tracks: TrackStore, size: tuple[int, int], frame: StoredFrame) -> None:
    seen = [observation for _, observation in frame.tracks]
    tracks.add(
        size,
        [track_id for track_id, _ in frame.tracks],
        [each.score for each in seen],
        [each.label for each in seen],
        [each.box for each in seen],
        [each.segmentation for each in seen],
        frame.seconds,
        frame.number,
        frame.is_damaged,
    )


def _line(frame: StoredFrame, class_names: list[str]) -> dict[str, Any]:
    instances = [
        {
            "track_id": track_id,
            "class_name": class_names[seen.label],
            "score": round(seen.score, 6),
            "box": [round(side, 2) for side in seen.box],
            "segmentation": seen.segmentation,
        }
        for track_id, seen in frame.tracks
    ]
    damaged = {"damaged": True} if frame.is_damaged else {}
    return {"frame": frame.number, "seconds": frame.seconds, **damaged, "instances": instances}


def _parse(line: str | bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: must be an object, is {shortened(content)}")
    return content


def read_header(text: str | bytes, where: str) -> tuple[VideoInfo, tuple[int, int]]:
    """The first line: the video, and ``(height, width)`` of its frames.

    Raises:
        InputError: not the header of a ``tracks.jsonl``; ``where`` is the prefix of the message.
    """
    line = _parse(text, where)
    if line.get("format") != FORMAT:
        raise InputError(f"{where}: has no format '{FORMAT}'; is this a tracks.jsonl?")
    if line.get("version") != VERSION:
        raise InputError(
            f"{where}: version {shortened(line.get('version'))}, this program reads {VERSION}"
        )
    video, classes = require(line, "video", dict, where), require(line, "classes", list, where)
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes):
        raise InputError(f"{where}: `classes` must be distinct names")
    fps = video.get("fps")
    if fps is not None and not (is_finite(fps) and fps > 0):
        raise InputError(f"{where}: `fps` must be a positive number or null, is {shortened(fps)}")
    size = require(video, "height", int, where), require(video, "width", int, where)
    if min(size) < 1:
        raise InputError(f"{where}: frames of {size[1]}x{size[0]} pixels")
    return VideoInfo(require(video, "name", str, where), fps, classes), size


def read_frame(
    line: str | bytes, size: tuple[int, int], labels: Mapping[str, int], frame: int, where: str
) -> StoredFrame:
    """Parse the line of a frame.

    Args:
        line: its text.
        size: ``(height, width)`` of the frames.
        labels: class index by name.
        frame: index of the frame in the file, from 0.
        where: names the line in error messages.

    Raises:
        InputError: the line is invalid.
    """
    content = _parse(line, where)
    seconds = content.get("seconds")
    if seconds is not None and not is_finite(seconds):
        raise InputError(f"{where}: `seconds` must be a number or null, is {shortened(seconds)}")
    is_damaged = content.get("damaged", False)
    if not isinstance(is_damaged, bool):
        raise InputError(f"{where}: `damaged` must be true or false, is {shortened(is_damaged)}")
    entries = require(content, "instances", list, where)
    found: dict[int, tuple[float, int, Any]] = {}
    for place, entry in enumerate(entries):
        here = f"{where}, instance {place}"
        track_id, name = require(entry, "track_id", int, here), entry.get("class_name")
        if not 0 <= track_id <= _LARGEST:
            raise InputError(f"{here}: `track_id` must be 0 or more, is {shortened(track_id)}")
        if track_id in found:
            raise InputError(f"{here}: track {track_id} occurs twice in the frame")
        if not isinstance(name, str) or name not in labels:
            raise InputError(f"{here}: class {shortened(name)} is not in the first line")
        score, box = entry.get("score"), entry.get("box")
        if not (is_finite(score) and 0 <= score <= 1):
            raise InputError(f"{here}: `score` must be from 0 to 1, is {shortened(score)}")
        if not (isinstance(box, list) and len(box) == 4 and are_finite(box)):
            raise InputError(f"{here}: `box` must be [x1, y1, x2, y2], is {shortened(box)}")
        found[track_id] = (score, labels[name], box)
    masks, _ = to_rles(
        [entry.get("segmentation") for entry in entries],
        *size,
        lambda place: f"{where}, instance {place}",
    )
    tracks = [
        (track_id, Observation(frame, score, label, (box[0], box[1], box[2], box[3]), mask))
        for (track_id, (score, label, box)), mask in zip(found.items(), masks, strict=True)
    ]
    number = require(content, "frame", int, where)
    if not 0 <= number <= _LARGEST:
        raise InputError(f"{where}: `frame` must be 0 or more, is {shortened(number)}")
    return StoredFrame(frame, number, seconds, tracks, is_damaged)
