"""One function on every video of a set, perhaps in several processes."""

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
    """What a function says of each video, in their order, with a progress bar.

    Args:
        function: of a module's top level, for other processes have to find it.
        video_set: the videos; each is read where it is worked on.
        description: stands before the bar.
        workers: processes that share the videos.

    Raises:
        InputError: a mask cannot be used.
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
