"""Ground truth and results of a set of videos, one video at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from queryinst_vis.evaluation.inputs import (
    GroundTruth,
    PlacedEntries,
    load_ground_truth,
    load_results,
)
from queryinst_vis.evaluation.mask_tracks import (
    MaskTrack,
    Video,
    parse_detections,
    parse_truths,
    parse_video,
)


@dataclass(frozen=True)
class VideoTracks:
    """One video: what is there and what was found, both in the order of their files."""

    video: Video
    truths: list[MaskTrack]
    detections: list[MaskTrack]

    def of_class(self, category_id: int) -> VideoTracks:
        """The same video with the tracks of one class only."""
        return VideoTracks(
            self.video,
            [track for track in self.truths if track.category_id == category_id],
            [track for track in self.detections if track.category_id == category_id],
        )


class VideoSet:
    """The annotated videos of a file with the results for them; iterate for ``VideoTracks``.

    Videos come in the order of their ids and are parsed when it is their turn.

    Attributes:
        categories: class name by category id, ids ascending.
        videos: every video of the ground truth by ascending id, also those without tracks.
    """

    def __init__(self, gt: str | Path | dict, results: str | Path | list) -> None:
        """Open both.

        Args:
            gt: YouTube-VIS annotations, a path or its content.
            results: YouTube-VIS results, a path (JSON, or zip with ``results.json``) or a list.

        Raises:
            InputError: a file cannot be used; so does the iteration for single masks.
        """
        truth = load_ground_truth(gt, "video", ("segmentations",))
        detections = load_results(results, truth, "video", ("segmentations",))
        self.categories = truth.categories
        self.videos = _parse_videos(truth)
        self._truths = _by_video(truth.annotations)
        self._detections = _by_video(
            [(place, {**entry, "id": number}) for number, (place, entry) in enumerate(detections)]
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[VideoTracks]:
        for video in self.videos:
            yield VideoTracks(
                video,
                parse_truths(self._truths[video.id], video),
                parse_detections(self._detections[video.id], video),
            )


def _parse_videos(truth: GroundTruth) -> list[Video]:
    return [
        parse_video(truth.media[video_id], f"{truth.where}: video {video_id}")
        for video_id in sorted(truth.media)
    ]


def _by_video(entries: PlacedEntries) -> dict[int, PlacedEntries]:
    groups: dict[int, PlacedEntries] = defaultdict(list)
    for place, entry in entries:
        groups[entry["video_id"]].append((place, entry))
    return groups
