"""Checks for suspicious file names in an annotation set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

from queryinst_vis.formats.annotation_set import Video
from queryinst_vis.formats.findings import Finding, Report
from queryinst_vis.formats.names import leaves_folder

_LAST_NUMBER = re.compile(r"(\d+)\D*$")


def check_file_names(videos: Iterable[Video], report: Report) -> None:
    """Report paths outside the image folder, repeated files, and frames that are out of order.

    Args:
        videos: all videos or images of a file.
        report: called with each finding.
    """
    owners: dict[str, tuple[int, int]] = {}  # video and frame
    for video in videos:
        shared: dict[int, list[str]] = {}
        for frame, file in enumerate(video.file_names):
            owner, first = owners.setdefault(file, (video.id, frame))
            if owner != video.id:
                shared.setdefault(owner, []).append(file)
            elif first != frame:
                message = f"{file} is also frame {first}"
                report(Finding("repeated frame", {**video.place, "frame": frame}, message))
        for other, files in shared.items():
            message = (
                f"{len(files)} of its {video.length} files, e.g. {files[0]}, "
                f"also belong to {video.kind} {other}"
            )
            report(Finding("shared frame", video.place, message))
        stray = next(filter(leaves_folder, video.file_names), None)
        if stray is not None:
            message = f"{stray} is not a plain path below the image folder"
            report(Finding("file path", video.place, message))
        _check_frame_numbers(video, report)


def _check_frame_numbers(video: Video, report: Report) -> None:
    matches = (_LAST_NUMBER.search(PurePosixPath(file).stem) for file in video.file_names)
    values = [int(match[1]) for match in matches if match]
    if len(values) < len(video.file_names):
        return
    steps = [later - earlier for earlier, later in pairwise(values)]
    for frame, step in enumerate(steps, start=1):
        if step < 0:
            message = f"{video.file_names[frame]} comes after {video.file_names[frame - 1]}"
            place = {**video.place, "frame": frame}
            report(Finding("frame order", place, message))
            return
    if len(set(steps)) > 1:
        frame = 1 + next(k for k, step in enumerate(steps) if step != steps[0])
        message = f"the step of frame numbers changes from {steps[0]} to {steps[frame - 1]}"
        report(Finding("uneven frames", {**video.place, "frame": frame}, message))
