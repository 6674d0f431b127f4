"""The synthetic benchmark set: exact masks, occlusion, objects that enter and leave."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.synthetic import generate, shapes
from queryinst_vis.data.synthetic.scene import Shape, draw_scene
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.masks import decode_rle, encode_rle
from tests.synthetic_support import BENCH, BENCH_SEED, WrittenSet


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "set"
    statistics = generate(folder, BENCH, BENCH_SEED)
    return WrittenSet(folder), statistics


@pytest.fixture(scope="module")
def bench_scenes(bench):
    """What the videos were rendered from; none of this seed's first draws hides an object."""
    written, _ = bench
    scenes = [
        draw_scene(BENCH, np.random.default_rng([BENCH_SEED, number]))
        for number in range(BENCH.videos)
    ]
    labels = [[shape.label + 1 for shape in scene.objects] for scene in scenes]
    assert labels == [
        [track["category_id"] for track in written.tracks_of(video)] for video in written.videos
    ]
    return scenes


def outline(shape: Shape, time: int, size: float = 1.0) -> np.ndarray:
    """``(P, 2)`` corners of a shape's outline in pixels of the frame."""
    x = size * shape.radii * np.cos(shapes.ANGLES)
    y = size * shape.radii * np.sin(shapes.ANGLES) * shape.aspect
    angle = shape.motion.rotation(time)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return shape.motion.position(time) + shape.motion.scale(time) * (np.stack([x, y], 1) @ turn.T)


def contains(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels whose centre lies in the polygon, by matplotlib; ``(height, width)`` bool."""
    inside = np.zeros((height, width), bool)
    left, top = np.clip(np.floor(polygon.min(0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(polygon.max(0)).astype(int), 0, (width, height))
    x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    centres = np.stack([x.ravel(), y.ravel()], 1)
    inside[top:bottom, left:right] = Polygon(polygon).contains_points(centres).reshape(x.shape)
    return inside


# Exact


def test_masks_of_one_frame_never_overlap(bench):
    written, _ = bench
    for video in written.videos:
        for frame in range(video["length"]):
            shown = [track["segmentations"][frame] for track in written.tracks_of(video)]
            masks = [rle for rle in shown if rle is not None]
            union = coco_mask.merge(masks)
            assert coco_mask.area(union) == coco_mask.area(masks).sum()


@pytest.mark.parametrize("number", [5, 7, 10])  # together all six classes
def test_masks_equal_an_independent_rendering(bench, bench_scenes, number):
    """Polygons filled by another library, back to front, give the masks of the file."""
    written, _ = bench
    tracks = written.tracks_of(written.videos[number])
    for frame in (0, 9, 19):
        owner = np.full((BENCH.height, BENCH.width), -1)
        for index, shape in enumerate(bench_scenes[number].objects):
            inside = contains(outline(shape, frame), BENCH.height, BENCH.width)
            if shape.hole:
                hole = outline(shape, frame, size=shape.hole)
                inside &= ~contains(hole, BENCH.height, BENCH.width)
            owner[inside] = index
        for index, track in enumerate(tracks):
            rle, expected = track["segmentations"][frame], owner == index
            written_mask = np.zeros_like(expected) if rle is None else decode_rle(rle)
            allowed = 2 if rle is not None else 20  # fewer than 20 pixels count as absent
            assert np.count_nonzero(written_mask != expected) <= allowed


def test_boxes_and_areas_follow_from_the_masks(bench):
    written, _ = bench
    for track in written.tracks:
        assert len(track["segmentations"]) == len(track["bboxes"]) == len(track["areas"]) == 20
        for rle, box, area in zip(
            track["segmentations"], track["bboxes"], track["areas"], strict=True
        ):
            if rle is None:
                assert box is None
                assert area is None
                continue
            rows, columns = np.nonzero(decode_rle(rle))
            assert area == len(rows) >= 20
            left, top = columns.min(), rows.min()
            assert box == [left, top, columns.max() - left + 1, rows.max() - top + 1]


# The benchmark set: preset bench, seed 2026


def test_bench_is_20_videos_of_20_frames_of_256x160(bench):
    written, _ = bench
    assert len(written.videos) == 20
    for video in written.videos:
        assert (video["length"], video["width"], video["height"]) == (20, 256, 160)
        assert len(video["file_names"]) == 20
        assert written.image(video["file_names"][-1]).shape == (160, 256, 3)


def test_bench_shows_2_to_6_objects_of_six_classes(bench):
    written, _ = bench
    counts = [len(written.tracks_of(video)) for video in written.videos]
    assert min(counts) == 2
    assert max(counts) == 6
    assert written.class_names == ["circle", "square", "triangle", "star", "cross", "ring"]
    assert {track["category_id"] for track in written.tracks} == {1, 2, 3, 4, 5, 6}


def test_in_bench_30_percent_of_object_frames_are_partly_occluded(bench, bench_scenes):
    """The whole outlines, filled by pycocotools, against the masks of the other objects."""
    written, statistics = bench
    covered = []
    nothing = encode_rle(np.zeros((BENCH.height, BENCH.width), bool))
    for video, scene in zip(written.videos, bench_scenes, strict=True):
        tracks = written.tracks_of(video)
        for frame in range(video["length"]):
            shown = [track["segmentations"][frame] for track in tracks]
            for index, shape in enumerate(scene.objects):
                if shown[index] is None:
                    continue
                others = [rle for rle in shown[:index] + shown[index + 1 :] if rle is not None]
                whole = _filled(shape, frame)
                hidden = [coco_mask.merge(others), whole] if others else [whole, nothing]
                overlap = coco_mask.merge(hidden, intersect=True)
                covered.append(coco_mask.area(overlap) >= 0.05 * coco_mask.area(whole))
    assert len(covered) == statistics.object_frames
    assert np.count_nonzero(covered) >= 0.3 * len(covered)
    assert np.count_nonzero(covered) / len(covered) == pytest.approx(
        statistics.covered_share, abs=0.02
    )


def _filled(shape: Shape, frame: int):
    """The whole outline as RLE; a ring without its hole."""
    polygons = [outline(shape, frame), *([outline(shape, frame, shape.hole)] if shape.hole else [])]
    rles = coco_mask.frPyObjects(
        [polygon[::8].ravel().tolist() for polygon in polygons], BENCH.height, BENCH.width
    )
    if not shape.hole:
        return rles[0]
    full, hole = coco_mask.decode(rles).transpose(2, 0, 1).astype(bool)
    return encode_rle(full & ~hole)


def test_in_bench_objects_enter_and_leave(bench, bench_scenes):
    """Some cross the border of the frame, not only behind other objects."""
    written, _ = bench
    crossings = {0: 0, 19: 0}
    for video, scene in zip(written.videos, bench_scenes, strict=True):
        for track, shape in zip(written.tracks_of(video), scene.objects, strict=True):
            for frame in crossings:
                low, high = outline(shape, frame).min(0), outline(shape, frame).max(0)
                beyond = (high < 0).any() or (low > (BENCH.width, BENCH.height)).any()
                if beyond:
                    assert track["segmentations"][frame] is None
                    crossings[frame] += 1
    assert min(crossings.values()) >= 1


def test_bench_objects_move_turn_and_change_size(bench_scenes):
    for scene in bench_scenes:
        for shape in scene.objects:
            path = np.stack([shape.motion.position(time) for time in range(20)])
            assert np.ptp(path, axis=0).max() > 1
            assert shape.motion.rotation(0) != shape.motion.rotation(19)
            assert shape.motion.scale(0) != shape.motion.scale(19)


def test_the_background_moves(bench, bench_scenes):
    """Pixels that show the background in two frames show another part of it."""
    written, _ = bench
    video, tracks = written.videos[0], written.tracks_of(written.videos[0])
    free = np.ones((BENCH.height, BENCH.width), bool)
    for rle in [track["segmentations"][frame] for track in tracks for frame in (0, 10)]:
        free &= ~decode_rle(rle) if rle is not None else True
    free = cv2.erode(free.astype(np.uint8), np.ones((9, 9))).astype(bool)
    first, later = (written.image(video["file_names"][frame]).astype(int) for frame in (0, 10))
    assert free.sum() > 1000
    assert np.abs(first - later)[free].mean() > 3


def test_the_printed_statistics_are_those_of_the_file(bench):
    written, statistics = bench
    areas = np.array([coco_mask.area(rle) for rle in written.object_frames()])
    entries = sum(track["segmentations"][0] is None for track in written.tracks)
    exits = sum(track["segmentations"][-1] is None for track in written.tracks)
    assert min(entries, exits) >= 1
    assert str(statistics).splitlines() == [
        "videos              20 of 20 frames, 256x160 pixels",
        f"objects             {len(written.tracks)} ("
        + ", ".join(
            f"{name} {sum(track['category_id'] == number for track in written.tracks)}"
            for number, name in enumerate(written.class_names, start=1)
        )
        + ")",
        "objects per video   2 to 6",
        f"object-frames       {len(areas)}, {statistics.covered_share:.1%} partly occluded",
        f"entries, exits      {entries}, {exits}",
        f"mean visible area   {areas.mean():.0f} pixels",
    ]


# The files


def test_coco_file_loads_in_pycocotools_and_agrees_with_the_videos(bench):
    written, _ = bench
    coco = COCO(str(written.folder / "coco.json"))
    assert len(coco.imgs) == 400
    assert len(coco.anns) == len(written.object_frames())
    tracks = {track["id"]: track for track in written.tracks}
    videos = {video["id"]: video for video in written.videos}
    for annotation in coco.anns.values():
        image = coco.imgs[annotation["image_id"]]
        track, frame = tracks[annotation["track_id"]], image["frame_index"]
        assert track["video_id"] == image["video_id"]
        assert videos[image["video_id"]]["file_names"][frame] == image["file_name"]
        assert annotation["category_id"] == track["category_id"]
        assert annotation["segmentation"]["counts"] == track["segmentations"][frame]["counts"]
        assert annotation["bbox"] == track["bboxes"][frame]
        assert annotation["area"] == track["areas"][frame]
        assert annotation["iscrowd"] == 0
    assert coco.annToMask(next(iter(coco.anns.values()))).shape == (160, 256)


def test_the_data_sets_open_both_generated_files(bench):
    written, statistics = bench
    frames, classes = written.folder / "frames", written.class_names
    videos = YouTubeVisDataset(written.folder / "youtube_vis.json", frames, classes).videos
    assert [len(video.tracks) for video in videos] == statistics.objects_per_video
    assert all(path.is_file() for video in videos for path in video.paths)
    images = CocoDataset(written.folder / "coco.json", frames, classes).images
    assert sum(len(image.instances) for image in images) == statistics.object_frames
