"""Short clips of a set's videos: ground truth beside results, the frames of errors marked."""

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
from queryinst_vis.video.writer import VideoWriter
from queryinst_vis.visualization.contact_sheet import write_caption

FPS = 6
"""Frames per second of a clip: slow, to be looked at."""
MAX_FRAMES = 60
PANE_WIDTH = 320

_CRF = 28  # x264's quality: enough to judge a mask
_RED = (235, 40, 40)
_STYLE = DrawingStyle(trace=False)


class ClipFrame(NamedTuple):
    """A frame of a clip: its number in the video, what went wrong in it, and the worst kind."""

    number: int
    errors: list[str]
    kind: str


class Clip(NamedTuple):
    """A clip, ready for a page.

    Attributes:
        frames: in order.
        media: base64 of an H.264 mp4, or of a JPEG where there is a single frame.
        is_video: which of the two.
        width: of the picture in pixels.
    """

    frames: list[ClipFrame]
    media: str
    is_video: bool
    width: int


@dataclass(frozen=True)
class Pane:
    """One of the pictures beside one another.

    Attributes:
        title: whose tracks they are.
        tracks: what is drawn.
        marked: ids that get a red box, by frame.
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
    """A clip of the part of a video that has the most errors.

    The ground truth is on the left, with a red box around what every result misses; the results
    follow, with a red box around what is no object of their class.

    Args:
        results: the same video with the tracks of each result file to show, by its title.
        categories: class name by category id.
        images: folder that file names are relative to.
        allow_outside: file names may lead out of it.

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
    """The frames of the part with the most errors, at most ``MAX_FRAMES``."""
    counts = np.zeros(length)
    for found in errors:
        for number, each in found.items():
            counts[number] += len(each.missed) + len(each.false) + len(each.switched)
    size = min(length, MAX_FRAMES)
    start = int(np.convolve(counts, np.ones(size), mode="valid").argmax())
    return range(start, start + size)


def _missed(errors: Mapping[str, Mapping[int, FrameErrors]]) -> dict[int, list[int]]:
    """What all results miss, by frame."""
    first, *others = errors.values()
    return {
        number: [
            truth
            for truth in found.missed
            if all(number in other and truth in other[number].missed for other in others)
        ]
        for number, found in first.items()
    }


def _shown(
    tracks: Sequence[MaskTrack], categories: Mapping[int, str], is_truth: bool
) -> list[ShownTrack]:
    return [
        ShownTrack(
            track.id,
            categories[track.category_id] + (" (crowd)" if track.crowd else ""),
            None if is_truth else track.score,
            track.masks,
        )
        for track in tracks
    ]


def _draw(
    video: Video, panes: Sequence[Pane], images: Path, shown: range, allow_outside: bool
) -> Iterator[np.ndarray]:
    """The frames with the panes beside one another."""
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
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return base64.b64encode(encoded.tobytes()).decode(), picture.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, FPS, crf=_CRF) as writer:
            for picture in pictures:
                width = picture.shape[1]
                writer.write(picture)
        return base64.b64encode(path.read_bytes()).decode(), width
