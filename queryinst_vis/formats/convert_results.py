"""Conversion between result formats, through YouTube-VIS results or stored tracks."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet, parse_set
from queryinst_vis.formats.coco_video import coco_video_entries, read_coco_video
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.mots_results import read_mots, write_mots
from queryinst_vis.formats.predictions import read_results
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.formats.results import write_results
from queryinst_vis.formats.single_video import (
    mots_numbers,
    write_coco_video_document,
    write_mots_video,
    write_video_results,
)
from queryinst_vis.formats.track_lines import is_track_lines, read_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.utils.files import check_not_read, new_folder

FORMATS = ("youtube-vis", "mots", "coco-video")
_TRACK_LINES = "tracks.jsonl"  # only read


def convert_results(
    src: str | Path,
    dst: str | Path,
    gt: str | Path | None = None,
    *,
    to: str | None = None,
    first_frame: int | None = None,
    classes: dict[str, int] | None = None,
) -> str:
    """Convert a result file or folder, whose format is detected.

    Identities and masks are preserved, except that MOTS masks are made disjoint by
    score, and MOTS has no scores (1 when read). Empty masks, and tracks with only empty masks,
    are dropped.

    Args:
        src: YouTube-VIS or COCO-video results (JSON, or zip with ``results.json``), a folder
            with a MOTS text file per video, or the ``tracks.jsonl`` of ``track``.
        dst: file, or for MOTS a folder that does not exist or is empty. Written completely or not
            at all.
        gt: YouTube-VIS file with the videos and categories; it needs no annotations. None for
            ``tracks.jsonl``, which has both: its video gets id 1, its classes ids starting at 1,
            and COCO-video is a complete document.
        to: one of ``FORMATS``; None: by ``dst``, YouTube-VIS if it ends in .json, MOTS if
            it has no suffix.
        first_frame: MOTS number of the first frame of every video; None: the numbers in the
            file names, see ``mots_sequences``.
        classes: MOTS classes by name; by default car is 1, pedestrian and person are 2.

    Returns:
        One-line summary of what was written and lost.

    Raises:
        InputError: the input cannot be read, converted or written.
    """
    src, dst = Path(src), Path(dst)
    check_not_read(dst, src, gt)
    target = to or _format_by_name(dst)
    if target not in FORMATS:
        raise InputError(f"format '{target}': choose {', '.join(FORMATS)}")
    origin = _TRACK_LINES if is_track_lines(src) else format_of(src)
    if origin == target:
        raise InputError(f"{src}: is {origin} already; choose the target format with --to")
    if "mots" not in (origin, target) and (first_frame is not None or classes):
        raise InputError("--first-frame and --class are for MOTS, but neither format is MOTS")
    if origin == _TRACK_LINES:
        if gt is not None:
            raise InputError(f"{src}: already contains the video and classes; leave out --gt")
        return _convert_track_lines(src, dst, target, first_frame, classes)
    if gt is None:
        raise InputError(
            f"{src}: does not contain the videos and classes, unlike a tracks.jsonl of 'track'; "
            "give a file with them with --gt"
        )
    return _convert_sets(src, dst, origin, target, open_videos(gt), first_frame, classes)


def _convert_sets(
    src: Path,
    dst: Path,
    origin: str,
    target: str,
    videos: AnnotationSet,
    first_frame: int | None,
    classes: dict[str, int] | None,
) -> str:
    """Convert the results on the videos of a set."""
    wrote = f"wrote {dst}: {target} results"
    if origin == "youtube-vis":
        results = VideoSet(videos, src)
    else:
        if origin == "mots":
            entries = read_mots(src, videos, first_frame, classes)
        else:
            entries = list(read_coco_video(src, videos).values())
        if target == "youtube-vis":
            write_results(dst, entries)
            return wrote
        results = VideoSet(videos, entries)
    if target == "coco-video":
        write_results(dst, coco_video_entries(videos, results))
        return wrote
    with new_folder(dst) as folder:
        return f"{wrote}; {write_mots(folder, videos, results, first_frame, classes)}"


def _convert_track_lines(
    src: Path, dst: Path, target: str, first_frame: int | None, classes: dict[str, int] | None
) -> str:
    wrote = f"wrote {dst}: {target} results"
    with TrackStore() as tracks:
        video = read_track_lines(src, tracks)
        if target == "youtube-vis":
            write_video_results(dst, tracks, video, with_times=video.fps is None)
        elif target == "coco-video":
            write_coco_video_document(dst, tracks, video)
        else:
            unknown = set(classes or {}) - set(video.class_names)
            if unknown:
                raise InputError(f"class '{min(unknown)}' is not in {src}")
            with new_folder(dst) as folder:
                path = folder / f"{Path(video.name).name or 'video'}.txt"
                first = 1 if first_frame is None else first_frame
                losses = write_mots_video(path, tracks, video, first, classes)
            numbers = mots_numbers(video.class_names, classes)
            named = ", ".join(f"{video.class_names[k]}={number}" for k, number in numbers.items())
            return f"{wrote} ({named}); {losses}"
    return wrote


def open_videos(gt: str | Path) -> AnnotationSet:
    """Videos and categories of a YouTube-VIS file; annotations are not needed.

    Raises:
        InputError: it cannot be read.
    """
    where = f"video set {gt}"
    content = {**read_annotations(gt, "video set"), "annotations": []}
    return parse_set(content, refuse_faults(where), where, "video")


def format_of(src: Path) -> str:
    """The format of a result file or folder, one of ``FORMATS``.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    if src.is_dir():
        return "mots"
    first = read_results(src)[0]
    return "coco-video" if "image_id" in first else "youtube-vis"


def _format_by_name(dst: Path) -> str:
    if dst.suffix not in ("", ".json"):
        raise InputError(f"{dst}: end it in .json (YouTube-VIS), or use --to {'|'.join(FORMATS)}")
    return "youtube-vis" if dst.suffix else "mots"
