"""Measures how segments affect track identities, by segment length and overlap.

    QUERYINST_VIS_DATA=... python benchmarks/segments.py --out work/segments.json

The detector runs once per video, and its detections are cached in ``--cache``. Association runs on
the uncut video and on segments, which are cut and joined as by ``batch --segment``, except that
every frame counts as a key frame, so that segments have the requested length. MOTS 0005 is
evaluated against its ground truth (the weights ``people`` were trained on its first three
quarters), ``vtest.avi`` against the tracks of the uncut video. Both are single shots: shot
detection is disabled. Results are deterministic.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from queryinst_vis.batch.segments import Cutting, cut_video
from queryinst_vis.data.convert import convert_mots
from queryinst_vis.errors import InputError, run_script
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
class TrackedFrame:
    """The detections of a frame and their track ids."""

    ids: list[int]
    found: Detections


@dataclass(frozen=True)
class Clip:
    """A video and its detections by frame."""

    name: str
    seconds: np.ndarray
    found: list[Detections]


def main() -> None:
    """Print and save the results."""
    arguments = parse_arguments()
    rows = measure(arguments)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomically(arguments.out, rows)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="people", metavar="NAME|FILE")
    parser.add_argument("--lengths", nargs="+", type=float, default=LENGTHS, metavar="SECONDS")
    parser.add_argument("--overlaps", nargs="+", type=float, default=OVERLAPS, metavar="SECONDS")
    parser.add_argument("--cache", type=Path, default=Path("work/segments"), metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all rows as JSON")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print a table for each video; returns all rows."""
    if "QUERYINST_VIS_DATA" not in os.environ:
        raise InputError("QUERYINST_VIS_DATA must be the folder that contains data/ and videos/")
    data = Path(os.environ["QUERYINST_VIS_DATA"])
    tracker = VideoTracker.from_pretrained(arguments.weights, "cpu")
    mots, vtest = data / "data" / "mots", data / "videos" / "vtest.avi"
    rows = []
    for name, path in (("mots_0005", mots / "images" / "0005"), ("vtest", vtest)):
        clip = load_clip(name, path, tracker, arguments.cache)
        uncut = track(clip, tracker, range(len(clip.found)))
        if name == "vtest":
            truth = as_ground_truth(clip, uncut)
        else:
            file = arguments.cache / f"{name}.json"
            if not file.exists():
                convert_mots(mots, file, sequences=["0005"])
            truth = read_json(file, "ground truth")
        print(f"\n| {name} | overlap | segments | tracks | {' | '.join(METRICS)} |")
        print("| --- " * (4 + len(METRICS)) + "|")
        results = [("uncut", "", 1, uncut)]
        for length, overlap in itertools.product(arguments.lengths, arguments.overlaps):
            if length > 2 * overlap:
                count, frames = in_segments(clip, tracker, Cutting(length, overlap))
                results.append((f"{length:g} s", f"{overlap:g} s", count, frames))
        for length, overlap, count, frames in results:
            row = {
                "video": name,
                "segment": length,
                "overlap": overlap,
                "segments": count,
                "tracks": len({track_id for frame in frames for track_id in frame.ids}),
                **score(truth, frames),
            }
            rows.append(row)
            scores = " | ".join(f"{100 * row[metric]:.1f}" for metric in METRICS)
            print(f"| {length} | {overlap} | {count} | {row['tracks']} | {scores} |", flush=True)
    return rows


def load_clip(name: str, path: Path, tracker: VideoTracker, cache: Path) -> Clip:
    """A video with its detections, from the cache if possible."""
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


def track(clip: Clip, tracker: VideoTracker, numbers: range) -> list[TrackedFrame]:
    """Associate the detections of a range of frames, starting with an empty memory."""
    tracker.reset()
    frames = []
    black = np.zeros((*clip.found[0].image_size, 3), np.uint8)  # so that no shot boundary is found
    for number in numbers:
        frame = Frame(number, float(clip.seconds[number]), black)
        found = tracker.associate(frame, _copy(clip.found[number])).detections
        assert found.track_ids is not None
        frames.append(TrackedFrame(found.track_ids.tolist(), found))
    return frames


def _copy(found: Detections) -> Detections:
    values = {field.name: getattr(found, field.name) for field in fields(found) if field.init}
    return Detections(**values)


def in_segments(
    clip: Clip, tracker: VideoTracker, cutting: Cutting
) -> tuple[int, list[TrackedFrame]]:
    """Track the segments of a video and join them; returns their number and all frames."""
    numbers = range(len(clip.found))
    segments = cut_video(clip.seconds, numbers, numbers, cutting)
    parts, owned = [], []
    for segment in segments:
        tracked = track(clip, tracker, range(segment.first, segment.stop))
        own = tracked[segment.owned - segment.first :]
        order = list(dict.fromkeys(track_id for frame in own for track_id in frame.ids))
        head = [_shared(frame) for frame in tracked[: segment.owned - segment.first]]
        tail = [_shared(frame) for frame in tracked[segment.shared - segment.first :]]
        parts.append(SegmentTracks(head, tail, order))
        owned.append(own)
    joined = [
        TrackedFrame([ids[track_id] for track_id in frame.ids], frame.found)
        for ids, frames in zip(join_segments(parts), owned, strict=True)
        for frame in frames
    ]
    return len(segments), joined


def _shared(frame: TrackedFrame) -> SharedFrame:
    found = frame.found
    embeddings = None if found.embeddings is None else found.embeddings.numpy()
    return SharedFrame(frame.ids, found.labels.tolist(), found.rles(), embeddings)


def _results(frames: Sequence[TrackedFrame], category_id: int) -> list[dict[str, Any]]:
    with TrackStore() as tracks:
        for frame in frames:
            found = frame.found
            tracks.add(
                found.image_size,
                frame.ids,
                found.scores.tolist(),
                found.labels.tolist(),
                found.boxes.tolist(),
                found.rles(),
            )
        return youtube_vis_entries(tracks, 1, [category_id])


def as_ground_truth(clip: Clip, frames: Sequence[TrackedFrame]) -> dict[str, Any]:
    """Convert tracks to annotations."""
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


def score(truth: dict[str, Any], frames: Sequence[TrackedFrame]) -> dict[str, float]:
    """The metrics of ``eval-tracking``, as fractions, and the number of id switches."""
    [person] = [each["id"] for each in truth["categories"] if each["name"] == "person"]
    scores = evaluate_tracking(truth, _results(frames, person))["detection_averaged"]
    return {metric: scores[metric] for metric in (*METRICS, "IDSW")}


if __name__ == "__main__":
    run_script(main)
