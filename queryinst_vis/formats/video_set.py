"""Ground truth and results of a set of videos, one video at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from queryinst_vis.errors import InputError
from queryinst_vis.formats.inputs import (
    GroundTruth,
    PlacedEntries,
    load_ground_truth,
    load_results,
)
from queryinst_vis.formats.json_stream import Packed, Place, read_values
from queryinst_vis.formats.mask_tracks import (
    MaskTrack,
    Video,
    parse_detections,
    parse_truths,
    parse_video,
)
from queryinst_vis.formats.names import video_name, videos_checksum
from queryinst_vis.utils.memory import steady_memory

_MASKS = "segmentations"


@dataclass(frozen=True)
class VideoTracks:
    """One video: what is there and what was found, both in the order of their files."""

    video: Video
    truths: list[MaskTrack]
    detections: list[MaskTrack]

    def by_class(self) -> dict[int, VideoTracks]:
        """The same video with the tracks of one class only, for each class that it has."""
        classes: dict[int, VideoTracks] = defaultdict(lambda: VideoTracks(self.video, [], []))
        for track in self.truths:
            classes[track.category_id].truths.append(track)
        for track in self.detections:
            classes[track.category_id].detections.append(track)
        return dict(classes)


@dataclass(frozen=True)
class UnreadVideo:
    """One video with its entries, which may still lie in their files; can be pickled."""

    video: Video
    truths: PlacedEntries
    detections: PlacedEntries

    def read(self) -> VideoTracks:
        """Read the entries and check their masks.

        Raises:
            InputError: a mask cannot be used.
        """
        return VideoTracks(
            self.video,
            parse_truths(_read(self.truths), self.video),
            parse_detections(_read(self.detections), self.video),
        )


class VideoSet:
    """The annotated videos of a file with the results for them; iterate for ``VideoTracks``.

    Videos come in the order of their ids and are read when it is their turn: of files, nothing
    but each entry's ids, score and place stays in memory.

    Attributes:
        categories: class name by category id, ids ascending.
        videos: every video of the ground truth by ascending id, also those without tracks.
        names: name by video id, each of its own.
        checksum: of the set of videos, see ``names.videos_checksum``.
    """

    def __init__(self, gt: str | Path | dict, results: str | Path | list) -> None:
        """Open both.

        Args:
            gt: YouTube-VIS annotations, a path or its content.
            results: YouTube-VIS results, a path (JSON, or zip with ``results.json``) or a list.

        Raises:
            InputError: a file cannot be used; so does the iteration for single masks.
        """
        with steady_memory():
            truth = load_ground_truth(gt, "video", (_MASKS,), heavy=_MASKS)
            detections = load_results(results, truth, "video", (_MASKS,), heavy=_MASKS)
        self.categories = truth.categories
        self.videos = _parse_videos(truth)
        self.names, self.checksum = _names(truth)
        self._truths = _by_video(truth.annotations)
        self._detections = _by_video(
            [(place, {**entry, "id": number}) for number, (place, entry) in enumerate(detections)]
        )

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def summary(self) -> dict[str, int | str]:
        """``{"count", "checksum"}``, which two reports on the same videos share."""
        return {"count": len(self), "checksum": self.checksum}

    def __iter__(self) -> Iterator[VideoTracks]:
        for video in self.unread():
            yield video.read()

    def unread(self) -> list[UnreadVideo]:
        """The videos in their order, for whoever wants to read them elsewhere."""
        return [
            UnreadVideo(video, self._truths[video.id], self._detections[video.id])
            for video in self.videos
        ]


def _read(entries: PlacedEntries) -> PlacedEntries:
    """The same entries with their masks."""
    unread = [entry[_MASKS] for _, entry in entries if isinstance(entry[_MASKS], Place | Packed)]
    values = read_values(unread)
    read = []
    for place, entry in entries:
        if isinstance(entry[_MASKS], Place | Packed):
            whole = next(values)
            if not isinstance(whole, dict) or _MASKS not in whole:
                raise InputError(f"{place}: changed while it was being read")
            entry = {**whole, **entry, _MASKS: whole[_MASKS]}
        read.append((place, entry))
    return read


def _names(truth: GroundTruth) -> tuple[dict[int, str], str]:
    """A name for each video by id, and the set's checksum."""
    names = {video_id: video_name(truth.media[video_id]) for video_id in sorted(truth.media)}
    count = Counter(names.values())
    unique = {
        video_id: name if count[name] == 1 else f"{name} (video {video_id})"
        for video_id, name in names.items()
    }
    try:
        return unique, videos_checksum(truth.media.values())
    except UnicodeEncodeError as error:
        raise InputError(f"{truth.where}: `file_names` hold broken text ({error})") from error


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
