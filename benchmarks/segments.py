"""What cutting a video into segments costs in identities, by length and overlap.

    QUERYINST_VIS_DATA=... python benchmarks/segments.py --out work/segments.json

The detector runs once over each video; its detections stay in ``--cache``, and association runs
over the whole video and over the segments that ``batch --segment`` would cut, whose identities are
joined as there. MOTS 0005 is scored against its ground truth (the weights ``people`` were
trained on its first three quarters), ``vtest.avi`` against the whole video's tracks. They are
cut as if every frame were a key frame, so that lengths are as asked for. Both are single shots, and
cuts are not looked for. Nothing is random.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from queryinst_vis.batch.segments import Cutting, cut_video
from queryinst_vis.data.convert import convert_mots
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_tracking
from queryinst_vis.formats.results import youtube_vis_entries
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.masks import InstanceMask
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.joining import SegmentTracks, SharedFrame, join_segments
from queryinst_vis.utils.files import atomic_path, read_json, write_json_atomically
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.video.frames import Frame
from queryinst_vis.video.image_sequence import ImageSequence
from queryinst_vis.video.source import VideoFile, open_source

LENGTHS = (5.0, 10.0, 20.0)
OVERLAPS = (0.5, 1.0, 2.0, 5.0)
_TENSORS = ("boxes", "scores", "labels", "embeddings")
METRICS = ("HOTA", "IDF1", "MOTA")


@dataclass(frozen=True)
class Seen:
    """A frame whose instances have identities."""

    ids: list[int]
    found: Detections


@dataclass(frozen=True)
class Clip:
    """A video, and what the detector has found in it."""

    name: str
    seconds: np.ndarray
    found: list[Detections]


def main() -> int:
    """Detect, track, join, score and print; 2 for what cannot be used."""
    arguments = parse_arguments()
    try:
        rows = measure(arguments)
    except InputError as error:
        print(f"segments.py: error: {error}", file=sys.stderr)
        return 2
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(arguments.out, rows)
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="people", metavar="NAME|FILE")
    parser.add_argument("--lengths", nargs="+", type=float, default=LENGTHS, metavar="SECONDS")
    parser.add_argument("--overlaps", nargs="+", type=float, default=OVERLAPS, metavar="SECONDS")
    parser.add_argument("--cache", type=Path, default=Path("work/segments"), metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write every row")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print a table for each video; returns all rows."""
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError("QUERYINST_VIS_DATA must name the folder that holds data/ and videos/")
    data = Path(os.environ["QUERYINST_VIS_DATA"])
    tracker = VideoTracker.from_pretrained(arguments.weights, "cpu")
    mots, vtest = data / "data" / "mots", data / "videos" / "vtest.avi"
    rows = []
    for name, path in (("mots_0005", mots / "images" / "0005"), ("vtest", vtest)):
        clip = load_clip(name, path, tracker, arguments.cache)
        whole = track(clip, tracker, range(len(clip.found)))
        if name == "vtest":
            truth = as_ground_truth(clip, whole)
        else:
            file = arguments.cache / f"{name}.json"
            if not file.exists():
                convert_mots(mots, file, sequences=["0005"])
            truth = read_json(file, "ground truth")
        print(f"\n| {name} | overlap | segments | tracks | {' | '.join(METRICS)} |")
        print("| --- " * (4 + len(METRICS)) + "|")
        results = [("whole", "", 1, whole)]
        for length in arguments.lengths:
            for overlap in arguments.overlaps:
                if length > 2 * overlap:
                    count, frames = in_segments(clip, tracker, Cutting(length, overlap))
                    results.append((f"{length:g} s", f"{overlap:g} s", count, frames))
        for length, overlap, count, frames in results:
            scores = score(truth, frames)
            tracks = len({track_id for seen in frames for track_id in seen.ids})
            shown = " | ".join(f"{100 * scores[metric]:.1f}" for metric in METRICS)
            print(f"| {length} | {overlap} | {count} | {tracks} | {shown} |", flush=True)
            rows.append(
                {
                    "video": name,
                    "segment": length,
                    "overlap": overlap,
                    "segments": count,
                    "tracks": tracks,
                    **{metric: scores[metric] for metric in (*METRICS, "IDSW")},
                }
            )
    return rows


def load_clip(name: str, path: Path, tracker: VideoTracker, cache: Path) -> Clip:
    """A video with its detections, which are computed unless the cache has them."""
    source = open_source(path)
    assert isinstance(source, VideoFile | ImageSequence)
    file = cache / f"{name}.pt"
    if not file.exists():
        frames = []
        for frame in show_progress(source.frames(), name, len(source), "frames"):
            [found] = tracker.detector.detect_frames([frame.image], tracker.embedding)
            frames.append(
                {
                    "image_size": found.image_size,
                    "rles": [rle["counts"] for rle in found.rles()],
                    **{field: getattr(found, field) for field in _TENSORS},
                }
            )
        with atomic_path(file) as temporary:
            torch.save(frames, temporary)
    rows = torch.load(file, weights_only=True)
    return Clip(name, source.seconds(), [_loaded(row) for row in rows])


def _loaded(row: dict[str, Any]) -> Detections:
    height, width = row["image_size"]
    masks = [
        InstanceMask((height, width), rle={"size": [height, width], "counts": counts})
        for counts in row["rles"]
    ]
    tensors = {name: row[name] for name in _TENSORS}
    return Detections(image_size=(height, width), pixel_masks=masks, **tensors)


def track(clip: Clip, tracker: VideoTracker, numbers: range) -> list[Seen]:
    """Associate the detections of some frames, beginning with an empty memory."""
    tracker.reset()
    seen = []
    black = np.zeros((*clip.found[0].image_size, 3), np.uint8)  # so that no cut is found
    for number in numbers:
        found = clip.found[number]
        frame = Frame(number, float(clip.seconds[number]), black)
        tracked = tracker.associate(frame, _copy(found)).detections
        assert tracked.track_ids is not None
        seen.append(Seen(tracked.track_ids.tolist(), tracked))
    return seen


def _copy(found: Detections) -> Detections:
    values = {field.name: getattr(found, field.name) for field in fields(found) if field.init}
    return Detections(**values)


def in_segments(clip: Clip, tracker: VideoTracker, cutting: Cutting) -> tuple[int, list[Seen]]:
    """Track the segments of a video and join their identities; returns their number, too."""
    numbers = range(len(clip.found))
    segments = cut_video(clip.seconds, numbers, numbers, cutting)
    parts, owned = [], []
    for segment in segments:
        seen = track(clip, tracker, range(segment.first, segment.stop))
        own = seen[segment.owned - segment.first :]
        order = list(dict.fromkeys(track_id for frame in own for track_id in frame.ids))
        # the overlap is the earlier segment's
        head = [_shared(frame) for frame in seen[: segment.owned - segment.first]]
        tail = [_shared(frame) for frame in seen[segment.shared - segment.first :]]
        parts.append(SegmentTracks(head, tail, order))
        owned.append(own)
    joined = [
        Seen([ids[track_id] for track_id in frame.ids], frame.found)
        for ids, frames in zip(join_segments(parts), owned, strict=True)
        for frame in frames
    ]
    return len(segments), joined


def _shared(seen: Seen) -> SharedFrame:
    found = seen.found
    embeddings = None if found.embeddings is None else found.embeddings.numpy()
    return SharedFrame(seen.ids, found.labels.tolist(), found.rles(), embeddings)


def _results(frames: Sequence[Seen], category_id: int) -> list[dict[str, Any]]:
    with TrackStore() as tracks:
        for seen in frames:
            found = seen.found
            tracks.add(
                found.image_size,
                seen.ids,
                found.scores.tolist(),
                found.labels.tolist(),
                found.boxes.tolist(),
                found.rles(),
            )
        return youtube_vis_entries(tracks, 1, [category_id])


def as_ground_truth(clip: Clip, frames: Sequence[Seen]) -> dict[str, Any]:
    """Tracks as annotations."""
    height, width = frames[0].found.image_size
    annotations = [
        {
            "id": number,
            "video_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "segmentations": entry["segmentations"],
            "areas": [rle and int(coco_mask.area(rle)) for rle in entry["segmentations"]],
            "bboxes": [rle and coco_mask.toBbox(rle).tolist() for rle in entry["segmentations"]],
        }
        for number, entry in enumerate(_results(frames, 1), 1)
    ]
    video = {
        "id": 1,
        "width": width,
        "height": height,
        "length": len(frames),
        "file_names": [f"{clip.name}/{number:06d}.jpg" for number in range(len(frames))],
    }
    categories = [{"id": 1, "name": "person"}]
    return {"videos": [video], "annotations": annotations, "categories": categories}


def score(truth: dict[str, Any], frames: Sequence[Seen]) -> dict[str, float]:
    """The metrics of ``eval-tracking``."""
    [person] = [each["id"] for each in truth["categories"] if each["name"] == "person"]
    return evaluate_tracking(truth, _results(frames, person))["detection_averaged"]


if __name__ == "__main__":
    sys.exit(main())
