"""Joins the tracked segments of a video into one result with consistent track ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from queryinst_vis.batch.decoder_process import DamagedFrames, DecodeWarning
from queryinst_vis.batch.decoding import DecodedVideo
from queryinst_vis.batch.options import Video
from queryinst_vis.batch.segment_files import (
    RecordedFrame,
    SegmentInfo,
    embeddings_of,
    read_frames,
    read_info,
)
from queryinst_vis.batch.segments import Cut, Segment
from queryinst_vis.batch.store import Store
from queryinst_vis.errors import InputError
from queryinst_vis.inference.result import FrameResult
from queryinst_vis.inference.video_runs import Results
from queryinst_vis.masks import RLE, InstanceMask
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.joining import SegmentTracks, SharedFrame, join_segments
from queryinst_vis.video.frames import DamagedFramesWarning, Frame


class JoinedVideo:
    """The results of a video whose segments have been tracked; also a ``Source``.

    Args:
        store: the data set that contains the segments.
        key: of the video.
        video: to join.
        cut: its segments.
        decoded: the whole video, if an output needs its frames; None: frames are black.

    Attributes:
        class_names: of all segments.
        precision: of the network.
        warnings: as from decoding the whole video.
        seconds: processing time by stage, summed over the segments.
    """

    is_live = False
    fault = None

    def __init__(
        self, store: Store, key: str, video: Video, cut: Cut, decoded: DecodedVideo | None
    ) -> None:
        self.name, self.origin = video.name, video.origin
        self.path: Path | None = None if decoded is None else decoded.path
        self._store, self._key, self._segments = store, key, cut.segments
        self._decoded = decoded
        self._infos = [read_info(store, key, segment) for segment in cut.segments]
        first = self._infos[0]
        self.fps = first.fps
        self.pixel_aspect = Fraction(first.pixel_aspect)
        self.precision = first.precision
        # a detector that names classes as they appear may number them differently in each segment
        names = [name for info in self._infos for name in info.class_names]
        self.class_names = list(dict.fromkeys(names))
        self.warnings = merge_warnings([info.warnings for info in self._infos])
        self.seconds = {
            stage: sum(info.seconds[stage] for info in self._infos) for stage in first.seconds
        }

    def __len__(self) -> int:
        return sum(info.frames for info in self._infos)

    def frames(self) -> Iterator[Frame]:
        """The frames; black without ``decoded``."""
        return (
            Frame(result.index, result.seconds, result.frame, result.detections.of_damaged_frame)
            for result in self.results()
        )

    def results(self) -> Results:
        """The results of all frames, with track ids and labels of the whole video."""
        images = None if self._decoded is None else self._decoded.frames()
        black = np.broadcast_to(np.uint8(0), (*self._infos[0].size, 3))
        all_ids = list(join_segments(map(self._tracks, self._segments, self._infos)))
        for segment, info, ids in zip(self._segments, self._infos, all_ids, strict=True):
            for frame in self._frames_of(segment, info):
                if frame.number < segment.owned:
                    continue
                image = black if images is None else self._image(images, frame.number)
                found = self._detections(frame, info, ids)
                yield FrameResult(image, frame.number, frame.seconds, found)

    def _image(self, images: Iterator[Frame], number: int) -> np.ndarray:
        """The next decoded image, which must be that of frame ``number``."""
        frame = next(images, None)
        if frame is None or frame.number != number:
            raise InputError(
                f"video {self.origin}: frame {number} is missing; has the file changed since it "
                "was tracked?"
            )
        return frame.image

    def _tracks(self, segment: Segment, info: SegmentInfo) -> SegmentTracks:
        """The tracks of a segment in its overlaps with the previous and the next one."""
        head: list[SharedFrame] = []
        tail: list[SharedFrame] = []
        for frame in self._frames_of(segment, info, only_shared=True):
            (head if frame.number < segment.owned else tail).append(_shared(frame, info))
        return SegmentTracks(head, tail, info.order)

    def _frames_of(
        self, segment: Segment, info: SegmentInfo, *, only_shared: bool = False
    ) -> Iterator[RecordedFrame]:
        """The frames of a segment, with labels mapped to ``class_names`` of the whole video."""
        labels = [self.class_names.index(name) for name in info.class_names]
        for frame in read_frames(self._store, self._key, segment, only_shared=only_shared):
            for row in frame.instances:
                row["label"] = labels[row["label"]]
            yield frame

    def _detections(
        self, frame: RecordedFrame, info: SegmentInfo, ids: dict[int, int]
    ) -> Detections:
        rows = frame.instances
        boxes = [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows]
        masks = [InstanceMask(info.size, rle=_rle(row["rle"], info)) for row in rows]
        embeddings = embeddings_of(rows)
        return Detections(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
            labels=torch.tensor([row["label"] for row in rows], dtype=torch.int64),
            image_size=info.size,
            embeddings=None if embeddings is None else torch.from_numpy(embeddings),
            track_ids=torch.tensor([ids[row["track_id"]] for row in rows], dtype=torch.int64),
            pixel_masks=masks if frame.has_masks else None,
            of_damaged_frame=frame.is_damaged,
            class_names=self.class_names,
        )


def merge_warnings(by_segment: Sequence[Sequence[DecodeWarning]]) -> list[str]:
    """The warnings of all segments, without duplicates; damaged frames in one warning."""
    damaged: dict[str, DamagedFrames] = {}
    texts: dict[str, None] = {}
    for warning in chain.from_iterable(by_segment):
        if isinstance(warning, str):
            texts[warning] = None
            continue
        earlier = damaged.setdefault(warning.source, warning)
        numbers = sorted({*earlier.numbers, *warning.numbers})
        damaged[warning.source] = earlier._replace(numbers=numbers)
    return [*texts, *(str(DamagedFramesWarning(*each)) for each in damaged.values())]


def _shared(frame: RecordedFrame, info: SegmentInfo) -> SharedFrame:
    rows = frame.instances
    return SharedFrame(
        [row["track_id"] for row in rows],
        [row["label"] for row in rows],
        [_rle(row["rle"], info) for row in rows],
        embeddings_of(rows),
    )


def _rle(counts: str, info: SegmentInfo) -> RLE:
    return {"size": list(info.size), "counts": counts}
