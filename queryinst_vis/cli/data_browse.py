"""``queryinst-vis data browse``: a set, or results for it, as a contact sheet or a video."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli.arguments import Commands, add_command, count, fraction

if TYPE_CHECKING:
    import numpy as np

    from queryinst_vis.data.tools.annotation_set import AnnotationSet, Medium
    from queryinst_vis.data.tools.results_checks import PlacedEntries
    from queryinst_vis.data.tools.shown_frames import ShownTrack

    Tracks = dict[int, list[ShownTrack]]
    """What to draw, by id of the videos or images that were chosen."""

_TILE_WIDTH = 320


def add(tools: Commands) -> None:
    """Add the command."""
    parser = add_command(
        tools,
        "browse",
        _run,
        "Draw masks, ids and class names on the frames of a YouTube-VIS or COCO file.",
        "FILE.png or FILE.jpg becomes a contact sheet, a row or more for each video; FILE.mp4 a\n"
        "video, one after the other. Ids are those of the annotations, or with --results the\n"
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
        "--out", type=_picture_or_video, required=True, metavar="FILE", help="what to write"
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="draw these results, not the annotations"
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        metavar="P",
        help="leave out results below this score, 0..1 (default: %(default)s)",
    )
    parser.add_argument(
        "--video",
        dest="videos",
        action="append",
        metavar="NAME|ID",
        help="show this one; may be given again and again (default: the first of the file)",
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
        help="show every N-th frame (default: all in an mp4; on a sheet so many fewer that a "
        "video fills one row)",
    )
    parser.add_argument(
        "--columns",
        type=count,
        default=6,
        metavar="N",
        help="pictures in a row of the sheet (default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        type=count,
        metavar="N",
        help=f"largest width of a picture in pixels (default: {_TILE_WIDTH} on a sheet)",
    )
    parser.add_argument(
        "--fps",
        type=count,
        default=5,
        metavar="N",
        help="pictures per second of the mp4 (default: %(default)s)",
    )


def _picture_or_video(text: str) -> Path:
    """A file name that says what is wanted."""
    if Path(text).suffix.lower() not in (".png", ".jpg", ".jpeg", ".mp4"):
        raise argparse.ArgumentTypeError(f"expected the name of a .png, .jpg or .mp4, got '{text}'")
    return Path(text)


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.annotation_set import open_set

    annotation_set = open_set(arguments.set)
    tracks = _choose(arguments, annotation_set)
    is_video = arguments.out.suffix.lower() == ".mp4"
    write = _write_video if is_video else _write_sheet
    shown = write(arguments, annotation_set, tracks)
    total = len(annotation_set.media)
    print(f"wrote {arguments.out}: {shown} frames, {len(tracks)} of {total} {annotation_set.kind}s")


def _choose(arguments: argparse.Namespace, annotation_set: AnnotationSet) -> Tracks:
    from itertools import islice

    from queryinst_vis.data.tools.edit import find_media
    from queryinst_vis.data.tools.shown_frames import annotated_tracks, predicted_tracks
    from queryinst_vis.errors import InputError

    media = annotation_set.media
    if not media:
        raise InputError(f"{arguments.set}: holds no {annotation_set.kind}s to show")
    wanted = islice(media, arguments.limit)
    if arguments.videos is not None:
        found = find_media(annotation_set, arguments.videos)
        wanted = (identity for identity in media if identity in found)
    if arguments.results is None:
        return {i: annotated_tracks(annotation_set, media[i]) for i in wanted}
    by_video = _read_results(arguments.results, annotation_set)
    return {
        i: predicted_tracks(
            by_video[i], media[i], annotation_set.categories, arguments.score_threshold
        )
        for i in wanted
    }


def _read_results(path: Path, annotation_set: AnnotationSet) -> dict[int, PlacedEntries]:
    """The entries of a result file by video."""
    from queryinst_vis.data.tools.findings import Finding, refuse_errors
    from queryinst_vis.data.tools.results_checks import group_results
    from queryinst_vis.errors import InputError
    from queryinst_vis.formats.inputs import read_json_or_zip

    if annotation_set.kind != "video":
        raise InputError("the set is one of images; only results on videos can be drawn")
    found: list[Finding] = []
    by_video = group_results(read_json_or_zip(path), annotation_set, found)
    refuse_errors(found, path, "'queryinst-vis check-submission' lists every fault")
    return by_video


def _write_sheet(
    arguments: argparse.Namespace, annotation_set: AnnotationSet, tracks: Tracks
) -> int:
    """Write the contact sheet; returns the number of frames on it."""
    from queryinst_vis.visualization.contact_sheet import ContactSheet

    sheet, shown, last = ContactSheet(arguments.columns), 0, None
    width = arguments.width or _TILE_WIDTH
    for medium, index, picture in _draw(
        arguments, annotation_set, tracks, width, arguments.columns
    ):
        if medium.kind == "video" and medium is not last:
            sheet.start_row()
        sheet.add(picture, _caption(medium, index))
        shown, last = shown + 1, medium
    sheet.write(arguments.out)
    return shown


def _write_video(
    arguments: argparse.Namespace, annotation_set: AnnotationSet, tracks: Tracks
) -> int:
    """Write the mp4, whose frames have room for the largest picture; returns their number."""
    import numpy as np

    from queryinst_vis.data.tools.shown_frames import scaled_size
    from queryinst_vis.video.writer import VideoWriter
    from queryinst_vis.visualization.contact_sheet import write_caption

    sizes = [scaled_size(annotation_set.media[i], arguments.width) for i in tracks]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    shown = 0
    with VideoWriter(arguments.out, arguments.fps) as writer:
        for medium, index, picture in _draw(arguments, annotation_set, tracks, arguments.width):
            room = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
            writer.write(write_caption(np.pad(picture, room), _caption(medium, index)))
            shown += 1
    return shown


def _caption(medium: Medium, index: int) -> str:
    frame = f", frame {index} of {medium.length}" if medium.kind == "video" else ""
    return f"{medium.name}{frame}"


def _draw(
    arguments: argparse.Namespace,
    annotation_set: AnnotationSet,
    tracks: Tracks,
    max_width: int | None,
    per_video: int | None = None,
) -> Iterator[tuple[Medium, int, np.ndarray]]:
    """Video by video, the frames to show with what is in them drawn on them.

    Without --every, ``per_video`` frames of each, evenly spaced, or all of them.
    """
    from queryinst_vis.data.tools.shown_frames import read_frames
    from queryinst_vis.utils.progress import show_progress
    from queryinst_vis.visualization import Overlay

    for identity in show_progress(list(tracks), "Drawing"):
        medium = annotation_set.media[identity]
        every = arguments.every or math.ceil(medium.length / (per_video or medium.length))
        class_names = sorted({track.class_name for track in tracks[identity]})
        # paths across frames that are not shown would be but straight lines
        overlay = Overlay(class_names, trace_length=30 if every == 1 else 1)
        frames = range(0, medium.length, every)
        for index, picture, found in read_frames(
            medium, tracks[identity], class_names, arguments.images, frames, max_width
        ):
            yield medium, index, overlay.draw(picture, found)
