"""``batch`` gives the results of ``track``, and reports the videos that it cannot read."""

import json
import os

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from queryinst_vis.batch.options import VideoOptions
from queryinst_vis.inference.track import track_video
from queryinst_vis.video import VideoWriter
from tests.batch_support import track_all, write_clip

parquet = pytest.importorskip("pyarrow.parquet", reason="the tables are Parquet: extra 'batch'")

OPTIONS = VideoOptions("shapes", max_size=96)
BOX, SCORE, MASK = 1e-2, 1e-4, 0.999  # pixels; IoU


def write_shapes(path, seed, frames=6):
    """A disc that moves to the right and a rectangle that grows to the left."""
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    left, right = random.integers(15, 40), random.integers(60, 85)
    with VideoWriter(path, 10) as writer:
        for index in range(frames):
            frame = np.full((64, 96, 3), 200, np.uint8)
            cv2.circle(frame, (int(left) + 4 * index, 24), 12, (200, 40, 40), -1)
            cv2.rectangle(frame, (int(right) - 4 * index, 34), (int(right), 54), (40, 40, 200), -1)
            writer.write(frame)
    return path


def tracked_by_track(clip, folder):
    """The instances of ``track`` by frame and track id."""
    track_video(clip, folder, "shapes", save=["jsonl"], max_size=96, device="cpu")
    _, *frames = map(json.loads, (folder / "tracks.jsonl").read_text().splitlines())
    return {
        (frame["frame"], instance["track_id"]): instance
        for frame in frames
        for instance in frame["instances"]
    }


def tracked_by_batch(out):
    """The instances of ``batch`` by video, then by frame and track id."""
    names = {row["key"]: row["name"] for row in parquet.read_table(out / "videos").to_pylist()}
    found = {name: {} for name in names.values()}
    for row in parquet.read_table(out / "detections").to_pylist():
        found[names[row["key"]]][row["frame"], row["track_id"]] = row
    return found


@pytest.mark.parametrize("streams", [1, 4])
def test_batch_gives_the_results_of_track(tmp_path, streams):
    clips = [write_shapes(tmp_path / "clips" / f"{number}.mp4", number) for number in range(3)]
    _, summary = track_all(clips, tmp_path / "out", options=OPTIONS, streams=streams)
    assert summary.done == 3
    batch = tracked_by_batch(tmp_path / "out")
    assert any(batch.values())
    for clip in clips:
        expected, ours = tracked_by_track(clip, tmp_path / clip.stem), batch[clip.stem]
        assert expected.keys() == ours.keys()
        for key, instance in expected.items():
            row, mask = ours[key], instance["segmentation"]
            assert row["class_name"] == instance["class_name"]
            assert row["score"] == pytest.approx(instance["score"], abs=SCORE)
            box = [row[side] for side in ("x1", "y1", "x2", "y2")]
            assert box == pytest.approx(instance["box"], abs=BOX)
            rle = {"size": mask["size"], "counts": row["rle"].encode()}
            other = {**mask, "counts": mask["counts"].encode()}
            assert coco_mask.iou([rle], [other], [0]).item() >= MASK


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes and limits of POSIX")
def test_bad_videos_are_reported_with_their_reason_and_do_not_affect_others(tmp_path):
    folder = tmp_path / "clips"
    good = [write_clip(folder / f"good{number}.mp4", 3) for number in range(3)]
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "refused.mp4").write_bytes(good[0].read_bytes()[:200])
    os.mkfifo(folder / "endless.mp4")
    whole = write_clip(tmp_path / "whole.mkv", 30).read_bytes()
    (folder / "damaged.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "huge").mkdir()
    cv2.imwrite(str(folder / "huge" / "0.png"), np.zeros((12_000, 14_000), np.uint8))

    sources = [*sorted(folder.glob("*.m*")), folder / "huge"]
    options = VideoOptions("shapes", max_size=64, allow_partial=True)
    limits = {"decode_memory": 512 << 20, "decode_silence": 10.0, "attempts": 1}
    _, summary = track_all(sources, tmp_path / "out", options=options, streams=4, **limits)
    assert summary.done == 4
    kinds = {each.video.name: each.kind for each in summary.failures}
    assert kinds == {"empty": "input", "refused": "input", "endless": "hang", "huge": "memory"}
    rows = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert all(row["name"] in row["reason"] and "\n" not in row["reason"] for row in rows)
    warned = {
        row["name"]: json.loads(row["warnings"])
        for row in parquet.read_table(tmp_path / "out" / "videos").to_pylist()
    }
    assert "truncated" in warned.pop("damaged")[0] and not any(warned.values())
