"""Short clips of ground truth and results side by side, with errors marked."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from queryinst_vis.data.tools.shown_frames import ShownTrack, read_frames
from queryinst_vis.drawing import DrawingStyle, Overlay
from queryinst_vis.evaluation.frame_errors import FrameErrors, frame_errors
from queryinst_vis.formats.annotation_set import Video
from queryinst_vis.formats.video_set import MaskTrack, VideoTracks
from queryinst_vis.utils.images import encode_jpeg
from queryinst_vis.video.writer import VideoWriter
from queryinst_vis.visualization.contact_sheet import write_caption

FPS = 6
"""Frames per second of a clip; slow, for inspection."""
MAX_FRAMES = 60
PANE_WIDTH = 320

_CRF = 28  # x264 quality, sufficient to judge a mask
_RED = (235, 40, 40)
_STYLE = DrawingStyle(trace=False)


class ClipFrame(NamedTuple):
    """A frame of a clip: frame number in the video, its errors, and the most severe kind."""

    number: int
    errors: list[str]
    kind: str


class Clip(NamedTuple):
    """An encoded clip for a report.

    Attributes:
        frames: the frames in order.
        media: base64 of an H.264 mp4, or of a JPEG if there is only one frame.
        is_video: whether it is an mp4.
        width: width in pixels.
    """

    frames: list[ClipFrame]
    media: str
    is_video: bool
    width: int


@dataclass(frozen=True)
class Pane:
    """One of the pictures side by side.

    Attributes:
        title: caption.
        tracks: the tracks to draw.
        marked: ids with a red box, by frame.
    """

    title: str
    tracks: list[ShownTrack]
    marked: Mapping[int, list[int]]


def make_clip(
    results: Mapping[str, VideoTracks],
    categories: Mapping[int, str],
    images: Path,
    *,
    allow_outside: bool = False,
) -> Clip:
    """Make a clip of the part of a video with the most errors.

    The ground truth is on the left, with red boxes around objects that all results miss; the
    results follow, with red boxes around false positives.

    Args:
        results: the video with the tracks of each result file, by title.
        categories: class name by category id.
        images: folder that file names are relative to.
        allow_outside: allow file names outside this folder.

    Raises:
        InputError: an image cannot be read.
    """
    errors = {title: frame_errors(tracks) for title, tracks in results.items()}
    first = next(iter(results.values()))
    video = first.video
    shown = _worst_window(video.length, list(errors.values()))
    panes = [Pane("ground truth", _shown(first.ground_truth, categories, True), _missed(errors))]
    panes += [
        Pane(
            title,
            _shown(tracks.detections, categories, False),
            {number: found.false for number, found in errors[title].items()},
        )
        for title, tracks in results.items()
    ]
    pictures = _draw(video, panes, images, shown, allow_outside)
    frames = [_describe(number, errors, results, categories) for number in shown]
    media, width = _encode(pictures, is_video=len(shown) > 1)
    return Clip(frames, media, len(shown) > 1, width)


def _worst_window(length: int, errors: Sequence[Mapping[int, FrameErrors]]) -> range:
    """The range of at most ``MAX_FRAMES`` frames with the most errors."""
    counts = np.zeros(length)
    for found in errors:
        for number, each in found.items():
            counts[number] += len(each.missed) + len(each.false) + len(each.switched)
    size = min(length, MAX_FRAMES)
    start = int(np.convolve(counts, np.ones(size), mode="valid").argmax())
    return range(start, start + size)


def _missed(errors: Mapping[str, Mapping[int, FrameErrors]]) -> dict[int, list[int]]:
    """Ids of objects that all results miss, by frame."""
    first, *others = errors.values()
    return {
        number: [
            gt
            for gt in found.missed
            if all(number in other and gt in other[number].missed for other in others)
        ]
        for number, found in first.items()
    }


def _shown(
    tracks: Sequence[MaskTrack], categories: Mapping[int, str], is_ground_truth: bool
) -> list[ShownTrack]:
    return [
        ShownTrack(
            track.id,
            categories[track.category_id] + (" (crowd)" if track.crowd else ""),
            None if is_ground_truth else track.score,
            track.masks,
        )
        for track in tracks
    ]


def _draw(
    video: Video, panes: Sequence[Pane], images: Path, shown: range, allow_outside: bool
) -> Iterator[np.ndarray]:
    """Yield the frames, with the panes side by side."""
    drawn = [_draw_pane(video, pane, images, shown, allow_outside) for pane in panes]
    for beside in zip(*drawn, strict=True):
        yield np.hstack(beside)


def _draw_pane(
    video: Video, pane: Pane, images: Path, shown: range, allow_outside: bool
) -> Iterator[np.ndarray]:
    names = sorted({track.class_name for track in pane.tracks})
    overlay = Overlay(names, style=_STYLE)
    for number, picture, found in read_frames(
        video, pane.tracks, names, images, shown, PANE_WIDTH, allow_outside
    ):
        picture = overlay.draw(picture, found)
        ids = [] if found.tracker_id is None else found.tracker_id.tolist()
        for box, track_id in zip(found.xyxy.round().astype(int).tolist(), ids, strict=True):
            if track_id in pane.marked.get(number, []):
                cv2.rectangle(picture, box[:2], box[2:], _RED, 2)
        yield write_caption(picture, f"{pane.title}, frame {number}")


def _describe(
    number: int,
    errors: Mapping[str, Mapping[int, FrameErrors]],
    results: Mapping[str, VideoTracks],
    categories: Mapping[int, str],
) -> ClipFrame:
    texts, kinds = [], set()
    for title, tracks in results.items():
        found = errors[title].get(number, FrameErrors())
        class_of = {track.id: categories[track.category_id] for track in tracks.ground_truth}
        class_found = {track.id: categories[track.category_id] for track in tracks.detections}
        said = [
            *(("switch", f"identity switch of {class_of[i]} {i}") for i in found.switched),
            *(("missed", f"missed {class_of[i]} {i}") for i in found.missed),
            *(("false", f"false positive {class_found[i]} {i}") for i in found.false),
        ]
        prefix = f"{title}: " if len(results) > 1 else ""
        texts += [prefix + text for _, text in said]
        kinds |= {kind for kind, _ in said}
    worst = next((kind for kind in ("switch", "missed", "false") if kind in kinds), "")
    return ClipFrame(number, texts, worst)


def _encode(pictures: Iterator[np.ndarray], is_video: bool) -> tuple[str, int]:
    """Base64 of the mp4 or JPEG, and the width in pixels."""
    width = 0
    if not is_video:
        picture = next(pictures)
        return base64.b64encode(encode_jpeg(picture, 95)).decode(), picture.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, FPS, crf=_CRF) as writer:
            for picture in pictures:
                width = picture.shape[1]
                writer.write(picture)
        return base64.b64encode(path.read_bytes()).decode(), width
