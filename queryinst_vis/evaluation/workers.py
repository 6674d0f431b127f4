"""Apply a function to every video of a set, optionally in several processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from queryinst_vis.formats.video_set import UnreadVideo, VideoSet, VideoTracks
from queryinst_vis.utils.allocator import steady_memory
from queryinst_vis.utils.progress import show_progress

Outcome = TypeVar("Outcome")


def map_videos(
    function: Callable[[VideoTracks], Outcome],
    video_set: VideoSet,
    description: str,
    workers: int = 1,
) -> list[Outcome]:
    """The results of a function for each video, in order, with a progress bar.

    Args:
        function: a function at module level, since it is pickled for other processes.
        video_set: the videos; each is read in the process that handles it.
        description: label of the progress bar.
        workers: number of processes.

    Raises:
        InputError: a mask is invalid.
    """
    workers = min(workers, len(video_set))
    if workers <= 1:
        with steady_memory():
            return list(show_progress(map(function, video_set), description, total=len(video_set)))
    # spawn: forked processes inherit the locks of threads that they lack
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        outcomes = pool.map(partial(_read_and_apply, function), video_set.unread())
        return list(show_progress(outcomes, description, total=len(video_set)))


def _read_and_apply(function: Callable[[VideoTracks], Outcome], video: UnreadVideo) -> Outcome:
    with steady_memory():
        return function(video.read())
