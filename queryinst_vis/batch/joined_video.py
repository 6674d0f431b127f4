"""A video whose segments have been tracked, with the identities of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from queryinst_vis.batch.decoder_process import DamagedFrames, Note
from queryinst_vis.batch.decoding import DecodedVideo
from queryinst_vis.batch.options import Video
from queryinst_vis.batch.segment_files import (
    RecordedFrame,
    SegmentNote,
    embeddings_of,
    read_frames,
    read_note,
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
    """The results of a video from those of its segments; a ``Source``, too.

    Args:
        store: where the segments are kept.
        key: of the video.
        video: which.
        cut: its segments, all of which have been tracked.
        decoded: the whole video, where files need its frames; None: black ones will do.

    Attributes:
        class_names: of all segments.
        precision: of the network.
        warnings: as from decoding the whole video.
        seconds: by stage, added up over the segments.
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
        self._notes = [read_note(store, key, segment) for segment in cut.segments]
        first = self._notes[0]
        self.fps = first.fps
        self.pixel_aspect = Fraction(first.pixel_aspect)
        self.precision = first.precision
        # a detector that names classes as they come up may number them differently in each segment
        names = [name for note in self._notes for name in note.class_names]
        self.class_names = list(dict.fromkeys(names))
        self.warnings = merge_warnings([note.warnings for note in self._notes])
        self.seconds = {
            stage: sum(note.seconds[stage] for note in self._notes) for stage in first.seconds
        }

    def __len__(self) -> int:
        return sum(note.frames for note in self._notes)

    def frames(self) -> Iterator[Frame]:
        """The frames, black without ``decoded``."""
        return (
            Frame(result.index, result.seconds, result.frame, result.detections.of_damaged_frame)
            for result in self.results()
        )

    def results(self) -> Results:
        """The results of all frames, each once, with the identities of the whole video."""
        images = None if self._decoded is None else self._decoded.frames()
        black = np.broadcast_to(np.uint8(0), (*self._notes[0].size, 3))
        all_ids = list(join_segments(map(self._tracks, self._segments, self._notes)))
        for segment, note, ids in zip(self._segments, self._notes, all_ids, strict=True):
            labels = self._labels(note)
            for frame in read_frames(self._store, self._key, segment):
                if frame.number < segment.owned:
                    continue
                image = black if images is None else self._image(images, frame.number)
                found = self._detections(frame, note, ids, labels)
                yield FrameResult(image, frame.number, frame.seconds, found)

    def _image(self, images: Iterator[Frame], number: int) -> np.ndarray:
        """The next frame, which has to be that of this number."""
        shown = next(images, None)
        if shown is None or shown.number != number:
            raise InputError(
                f"video {self.origin}: frame {number} is not found again; has the file changed?"
            )
        return shown.image

    def _tracks(self, segment: Segment, note: SegmentNote) -> SegmentTracks:
        head: list[SharedFrame] = []
        tail: list[SharedFrame] = []
        labels = self._labels(note)
        for frame in read_frames(self._store, self._key, segment, only_shared=True):
            (head if frame.number < segment.owned else tail).append(_shared(frame, note, labels))
        return SegmentTracks(head, tail, note.order)

    def _labels(self, note: SegmentNote) -> list[int]:
        """The labels of the whole video, by those of a segment."""
        return [self.class_names.index(name) for name in note.class_names]

    def _detections(
        self, frame: RecordedFrame, note: SegmentNote, ids: dict[int, int], labels: Sequence[int]
    ) -> Detections:
        rows = frame.instances
        boxes = [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows]
        masks = [InstanceMask(note.size, rle=_rle(row["rle"], note)) for row in rows]
        embeddings = embeddings_of(rows)
        return Detections(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
            labels=torch.tensor([labels[row["label"]] for row in rows], dtype=torch.int64),
            image_size=note.size,
            embeddings=None if embeddings is None else torch.from_numpy(embeddings),
            track_ids=torch.tensor([ids[row["track_id"]] for row in rows], dtype=torch.int64),
            pixel_masks=masks if note.has_masks else None,
            of_damaged_frame=frame.is_damaged,
            class_names=self.class_names,
        )


def merge_warnings(by_segment: Sequence[Sequence[Note]]) -> list[str]:
    """The warnings of a whole video from those of its segments, each said once."""
    damaged: dict[str, DamagedFrames] = {}
    texts: dict[str, None] = {}
    for note in (note for notes in by_segment for note in notes):
        if isinstance(note, str):
            texts[note] = None
            continue
        before = damaged.setdefault(note.source, note)
        numbers = sorted({*before.numbers, *note.numbers})
        damaged[note.source] = before._replace(numbers=numbers)
    return [*texts, *(str(DamagedFramesWarning(*note)) for note in damaged.values())]


def _shared(frame: RecordedFrame, note: SegmentNote, labels: Sequence[int]) -> SharedFrame:
    rows = frame.instances
    return SharedFrame(
        [row["track_id"] for row in rows],
        [labels[row["label"]] for row in rows],
        [_rle(row["rle"], note) for row in rows],
        embeddings_of(rows),
    )


def _rle(counts: str, note: SegmentNote) -> RLE:
    return {"size": list(note.size), "counts": counts}
