"""``queryinst-vis data browse``: annotations or results as a contact sheet or video."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_allow_outside,
    add_command,
    count,
    fraction,
)

if TYPE_CHECKING:
    import numpy as np

    from queryinst_vis.data.tools.shown_frames import ShownTrack
    from queryinst_vis.formats.annotation_set import AnnotationSet, Video

    Tracks = dict[int, list[ShownTrack]]
    """Tracks to draw, by id of the selected videos or images."""

_TILE_WIDTH = 320


def add(tools: Commands) -> None:
    """Add the command."""
    parser = add_command(
        tools,
        "browse",
        _run,
        "Draw masks, ids and class names on the frames of a YouTube-VIS or COCO file.",
        "FILE.png or FILE.jpg is a contact sheet with one or more rows per video; FILE.mp4 shows\n"
        "the videos one after another. Ids are those of the annotations, or with --results the\n"
        "positions in the result file.",
        "queryinst-vis data browse train.json --images train/JPEGImages --out out/train.jpg",
        "queryinst-vis data browse val.json --images val/JPEGImages --video 0a49f5265b "
        "--results results.json --out out/found.mp4",
    )
    parser.add_argument("set", type=Path, metavar="SET.json", help="YouTube-VIS or COCO file")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder of its images"
    )
    parser.add_argument(
        "--out", type=_picture_or_video, required=True, metavar="FILE", help="output file"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="draw these results instead of the annotations"
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        metavar="P",
        help="minimum score of results, 0..1 (default: %(default)s)",
    )
    parser.add_argument(
        "--video",
        dest="videos",
        action="append",
        metavar="NAME|ID",
        help="show this video or image; repeatable (default: the first ones in the file)",
    )
    parser.add_argument(
        "--limit",
        type=count,
        default=20,
        metavar="N",
        help="without --video, show the first N videos (default: %(default)s)",
    )
    parser.add_argument(
        "--every",
        type=count,
        metavar="N",
        help="show every N-th frame (default: all in an mp4; on a sheet as many as fit into one "
        "row per video)",
    )
    parser.add_argument(
        "--columns",
        type=count,
        default=6,
        metavar="N",
        help="images per row of the sheet (default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        type=count,
        metavar="N",
        help=f"maximum width of an image in pixels (default: {_TILE_WIDTH} on a sheet)",
    )
    parser.add_argument(
        "--fps",
        type=count,
        default=5,
        metavar="N",
        help="frame rate of the mp4 (default: %(default)s)",
    )
    add_allow_outside(parser)


def _picture_or_video(text: str) -> Path:
    """A file name with the suffix of an image or video."""
    if Path(text).suffix.lower() not in (".png", ".jpg", ".jpeg", ".mp4"):
        raise argparse.ArgumentTypeError(f"expected the name of a .png, .jpg or .mp4, got '{text}'")
    return OutputFile(text)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.formats.annotation_set import open_set

    annotation_set = open_set(arguments.set)
    tracks = _choose(arguments, annotation_set)
    is_video = arguments.out.suffix.lower() == ".mp4"
    write = _write_video if is_video else _write_sheet
    shown = write(arguments, annotation_set, tracks)
    total = len(annotation_set.videos)
    print(f"wrote {arguments.out}: {shown} frames, {len(tracks)} of {total} {annotation_set.kind}s")


def _choose(arguments: argparse.Namespace, annotation_set: AnnotationSet) -> Tracks:
    from itertools import islice

    from queryinst_vis.data.tools.edit import find_videos
    from queryinst_vis.data.tools.shown_frames import annotated_tracks, predicted_tracks
    from queryinst_vis.errors import InputError
    from queryinst_vis.formats.findings import refuse_faults
    from queryinst_vis.formats.predictions import group_entries
    from queryinst_vis.formats.reading import read_json_or_zip

    videos, results = annotation_set.videos, arguments.results
    if not videos:
        raise InputError(f"{arguments.set}: contains no {annotation_set.kind}s")
    chosen = list(islice(videos, arguments.limit))
    if arguments.videos is not None:
        found = find_videos(annotation_set, arguments.videos)
        chosen = [id_ for id_ in videos if id_ in found]
    if results is None:
        return {id_: annotated_tracks(annotation_set, videos[id_]) for id_ in chosen}
    if annotation_set.kind != "video":
        raise InputError("the set contains images; only results on videos can be drawn")
    remedy = "'queryinst-vis check-submission' lists every fault"
    report = refuse_faults(str(results), remedy=remedy)
    by_video = group_entries(read_json_or_zip(results), annotation_set, report)
    categories, min_score = annotation_set.categories, arguments.score_threshold
    return {
        id_: predicted_tracks(by_video[id_], videos[id_], categories, min_score, str(results))
        for id_ in chosen
    }


def _write_sheet(
    arguments: argparse.Namespace, annotation_set: AnnotationSet, tracks: Tracks
) -> int:
    """Write the contact sheet; returns the number of frames on it."""
    from queryinst_vis.visualization.contact_sheet import ContactSheet

    sheet, shown, last = ContactSheet(arguments.columns), 0, None
    width = arguments.width or _TILE_WIDTH
    for video, index, picture in _draw(arguments, annotation_set, tracks, width, arguments.columns):
        if video.kind == "video" and video is not last:
            sheet.start_row()
        sheet.add(picture, _caption(video, index))
        shown, last = shown + 1, video
    sheet.write(arguments.out)
    return shown


def _write_video(
    arguments: argparse.Namespace, annotation_set: AnnotationSet, tracks: Tracks
) -> int:
    """Write the mp4, as large as the largest image; returns the number of frames."""
    import numpy as np

    from queryinst_vis.data.tools.shown_frames import scaled_size
    from queryinst_vis.video.writer import VideoWriter
    from queryinst_vis.visualization.contact_sheet import write_caption

    sizes = [scaled_size(annotation_set.videos[i], arguments.width) for i in tracks]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    shown = 0
    with VideoWriter(arguments.out, arguments.fps) as writer:
        for video, index, picture in _draw(arguments, annotation_set, tracks, arguments.width):
            room = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
            writer.write(write_caption(np.pad(picture, room), _caption(video, index)))
            shown += 1
    return shown


def _caption(video: Video, index: int) -> str:
    frame = f", frame {index} of {video.length}" if video.kind == "video" else ""
    return f"{video.name}{frame}"


def _draw(
    arguments: argparse.Namespace,
    annotation_set: AnnotationSet,
    tracks: Tracks,
    max_width: int | None,
    per_video: int | None = None,
) -> Iterator[tuple[Video, int, np.ndarray]]:
    """The annotated frames, video by video.

    Without --every, ``per_video`` evenly spaced frames of each, or all.
    """
    from queryinst_vis.data.tools.shown_frames import read_frames
    from queryinst_vis.utils.progress import show_progress
    from queryinst_vis.visualization import Overlay

    for identity in show_progress(list(tracks), "Drawing"):
        video = annotation_set.videos[identity]
        every = arguments.every or math.ceil(video.length / (per_video or video.length))
        class_names = sorted({track.class_name for track in tracks[identity]})
        # paths across skipped frames would only be straight lines
        overlay = Overlay(class_names, trace_length=30 if every == 1 else 1)
        frames = range(0, video.length, every)
        for index, picture, found in read_frames(
            video,
            tracks[identity],
            class_names,
            arguments.images,
            frames,
            max_width,
            arguments.allow_outside,
        ):
            yield video, index, overlay.draw(picture, found)
