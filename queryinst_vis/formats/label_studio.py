"""Tracks as a Label Studio task with a video object tracking annotation (``VideoRectangle``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queryinst_vis.formats.losses import Losses
from queryinst_vis.formats.track_store import Observation, Track, TrackStore, VideoInfo
from queryinst_vis.utils.files import write_json_atomically

MASKS = "masks, of which the boxes stay"


def write_label_studio(
    path: str | Path,
    tracks: TrackStore,
    video: VideoInfo,
    names: Mapping[int, str],
    address: str,
) -> Losses:
    """Write one task, whose annotation has a region for each track; names are stored in ``meta``.

    Args:
        path: the JSON file; written completely or not at all.
        tracks: of the video.
        video: the video.
        names: of identities, by track id.
        address: URL of the video for Label Studio.

    Returns:
        What the format cannot represent: regions of videos are boxes.
    """
    numbers = list(tracks.frame_numbers())
    times = [0.0 if seconds is None else seconds for seconds in tracks.frame_times()]
    losses = Losses()
    result = []
    for track in tracks:
        sequence = _sequence(track, numbers, times, tracks.frame_size)
        losses[MASKS] += len(sequence)
        value = {
            "framesCount": numbers[-1] + 1,
            "duration": times[-1],
            "sequence": sequence,
            "labels": [video.class_names[track.label]],
        }
        name = names.get(track.track_id)
        result.append(
            {
                "id": f"track_{track.track_id}",
                "type": "videorectangle",
                "from_name": "box",
                "to_name": "video",
                "origin": "manual",
                "score": round(track.score, 4),
                "value": value,
                **({"meta": {"text": [name]}} if name else {}),
            }
        )
    write_json_atomically(path, [{"data": {"video": address}, "annotations": [{"result": result}]}])
    return losses


def _sequence(
    track: Track, numbers: list[int], times: list[float], size: tuple[int, int]
) -> list[dict[str, Any]]:
    """The key frames of a track: boxes in per cent, frames counted from 1.

    Boxes are interpolated between key frames, unless the earlier one is not ``enabled``,
    which ends the track.
    """
    seen = list(track.observations())
    return [
        {
            "frame": numbers[each.frame] + 1,
            "time": times[each.frame],
            "enabled": after is not None and after.frame == each.frame + 1,
            "rotation": 0,
            **_per_cent(each, size),
        }
        for each, after in zip(seen, [*seen[1:], None], strict=True)
    ]


def _per_cent(seen: Observation, size: tuple[int, int]) -> dict[str, float]:
    height, width = size
    left, right = (min(max(side / width, 0), 1) * 100 for side in seen.box[0::2])
    top, bottom = (min(max(side / height, 0), 1) * 100 for side in seen.box[1::2])
    return {
        "x": round(left, 4),
        "y": round(top, 4),
        "width": round(right - left, 4),
        "height": round(bottom - top, 4),
    }
