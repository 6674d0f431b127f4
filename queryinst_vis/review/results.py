"""Locating the results of a review, their run, and its video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.any_results import KnownVideo, read_any_results
from queryinst_vis.formats.fields import shortened
from queryinst_vis.formats.run_file import fingerprint, read_run, source_of_run
from queryinst_vis.formats.track_lines import is_track_lines, write_track_lines
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.utils.files import files_together, read_json, write_json_atomically
from queryinst_vis.video.source import known_length, open_source

TRACKS_FILE = "tracks.jsonl"


@dataclass(frozen=True)
class Results:
    """The results under review.

    Attributes:
        path: result file or folder.
        folder: folder for the journal and the index, next to the results.
        run: content of the ``run.json`` next to the results, or None.
    """

    path: Path
    folder: Path
    run: dict[str, Any] | None


def find_results(path: Path) -> Results:
    """Find the results in an output folder of ``track``, or in a result file.

    Raises:
        InputError: there are none.
    """
    if path.is_dir() and (path / TRACKS_FILE).is_file():
        path = path / TRACKS_FILE
    if not path.exists():
        raise InputError(f"results {path}: no such file or folder")
    if path.is_dir():
        raise InputError(
            f"results {path}: holds no {TRACKS_FILE}, which 'track' writes unless --save "
            "excludes it"
        )
    return Results(path, path.with_name(f"{path.name}.review"), read_run(path.parent))


def as_track_lines(
    results: Results, video: Path | None, gt: Path | None = None, video_id: int | None = None
) -> Path:
    """The results as ``tracks.jsonl``: the original, or a converted copy in the review folder.

    Args:
        results: results in any format.
        video: the video, which provides frame count and times if the results do not.
        gt, video_id: as for ``read_any_results``.

    Raises:
        InputError: the results cannot be read.
    """
    if is_track_lines(results.path):
        if gt is not None or video_id is not None:
            raise InputError(
                f"results {results.path}: already contain video and classes; leave out --gt and "
                "--video-id"
            )
        return results.path
    copy, origin_file = results.folder / TRACKS_FILE, results.folder / "copy.json"
    origin = {
        "results": fingerprint(results.path),
        "gt": None if gt is None else fingerprint(gt),
        "video_id": video_id,
        "length": None,
    }
    known = KnownVideo(results.path.stem)
    if video is not None:
        source = open_source(video)
        known = KnownVideo(source.name, source.fps, known_length(source))
        origin["length"] = known.length
    has_copy = copy.exists() and origin_file.exists()
    if not has_copy or read_json(origin_file, "copy of results") != origin:
        with TrackStore() as tracks, files_together():
            info = read_any_results(results.path, tracks, known, gt, video_id)
            write_track_lines(copy, tracks, info)
            write_json_atomically(origin_file, origin)
    return copy


def hidden_by_run(run: dict[str, Any] | None) -> list[str]:
    """Classes and track ids that the run blurred or cut out, as text."""
    options = (run or {}).get("options")
    if not isinstance(options, dict):
        return []
    chosen = [options.get("blur"), options.get("cut_out")]
    return [shortened(str(each)) for ids in chosen if isinstance(ids, list) for each in ids]


def find_video(results: Results, named: Path | None) -> tuple[Path | None, Any]:
    """Find the video of the results.

    Args:
        results: the results.
        named: path given by the user; None: the path at the time of tracking.

    Returns:
        Its path, or None if unknown, and its fingerprint, or None if it has none.

    Raises:
        InputError: the video is missing or a different one.
    """
    source = source_of_run(results.run)
    expected, origin = source.get("fingerprint"), source.get("origin")
    if named is None:
        if not isinstance(origin, str) or (expected is None and not Path(origin).exists()):
            return None, None
        if not Path(origin).exists():
            raise InputError(f"video {origin}: no longer exists; give its new path with --video")
        named = Path(origin)
    elif not named.exists():
        raise InputError(f"video {named}: no such file or folder")
    found = fingerprint(named)
    if expected is not None and found != expected:
        raise InputError(
            f"video {named}: is not the tracked video, or has changed since; give the path of the "
            "tracked one with --video"
        )
    return named, found
