"""The synthetic videos: reproducible, exact, crowded, and told apart by shape alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from queryinst_vis import cli
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.synthetic import PRESETS, SyntheticSettings, generate, shapes
from queryinst_vis.data.synthetic.render import render
from queryinst_vis.data.synthetic.scene import Scene, Shape, draw_scene
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle, encode_rle

TINY = SyntheticSettings(videos=2, frames=3, width=64, height=48, max_objects=3)
BENCH, BENCH_SEED = PRESETS["bench"], 2026


class WrittenSet:
    """A folder that ``generate`` wrote, as a reader finds it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.content = json.loads((folder / "youtube_vis.json").read_text())
        self.videos = self.content["videos"]
        self.tracks = self.content["annotations"]
        self.class_names = [category["name"] for category in self.content["categories"]]

    def tracks_of(self, video):
        return [track for track in self.tracks if track["video_id"] == video["id"]]

    def image(self, name):
        return cv2.cvtColor(cv2.imread(str(self.folder / "frames" / name)), cv2.COLOR_BGR2RGB)

    def object_frames(self):
        return [rle for track in self.tracks for rle in track["segmentations"] if rle is not None]


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
    """``(P, 2)`` corners of a shape's outline in pixels, carried from its own to the frame."""
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


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Reproducible


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    generate(tmp_path / "a", TINY, seed=3)
    generate(tmp_path / "b", TINY, seed=3)
    first = files_below(tmp_path / "a")
    assert set(first) == {
        "youtube_vis.json",
        "coco.json",
        *(f"frames/{video:04d}/{frame:05d}.jpg" for video in range(2) for frame in range(3)),
    }
    assert first == files_below(tmp_path / "b")


def test_another_seed_draws_other_videos(tmp_path):
    generate(tmp_path / "a", TINY, seed=3)
    generate(tmp_path / "b", TINY, seed=4)
    first, second = files_below(tmp_path / "a"), files_below(tmp_path / "b")
    assert set(first) == set(second)
    assert not [name for name in first if first[name] == second[name]]


def test_a_video_does_not_depend_on_how_many_there_are(tmp_path):
    generate(tmp_path / "two", TINY, seed=3)
    generate(tmp_path / "three", TINY.override(videos=3), seed=3)
    two, three = files_below(tmp_path / "two"), files_below(tmp_path / "three")
    frames = {name for name in two if name.startswith("frames/")}
    assert len(frames) == 6
    assert {name: two[name] for name in frames} == {name: three[name] for name in frames}


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
def test_masks_are_what_an_independent_renderer_paints(bench, bench_scenes, number):
    """Polygons filled by another library, the farthest first, give the masks of the file."""
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


def test_the_colours_of_a_frame_change_where_the_mask_does():
    """White shapes on black: brighter than the middle exactly where the mask is."""
    white, black = (np.full((32, 32, 3), value, np.float32) for value in (255, 0))
    scene = draw_scene(BENCH.override(objects=(6, 6)), np.random.default_rng(1))
    for shape in scene.objects:
        alone = Scene(black, scene.background_motion, [replace(shape, tile=white)])
        for frame in render(alone, 3, BENCH.height, BENCH.width):
            mask = frame.owner == 0
            assert mask.sum() == frame.extent[0]
            assert np.array_equal(frame.image[..., 0] >= 128, mask)


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


def test_every_object_of_a_scene_has_a_track_that_shows_it(tmp_path):
    """A draw that hides an object for good makes way for the next draw."""
    settings = SyntheticSettings(1, 2, 32, 32, min_objects=5, max_objects=5)

    def hides_an_object(seed):
        scene = draw_scene(settings, np.random.default_rng([seed, 0]))
        visible = [frame.visible for frame in render(scene, 2, 32, 32)]
        return np.max(visible, axis=0).min() < 20

    seed = next(seed for seed in range(50) if hides_an_object(seed))
    generate(tmp_path / "set", settings, seed)
    tracks = WrittenSet(tmp_path / "set").tracks
    assert len(tracks) == 5
    assert all(any(track["segmentations"]) for track in tracks)
    assert len(list((tmp_path / "set" / "frames" / "0000").iterdir())) == 2


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


def test_in_bench_others_cover_a_part_of_30_percent_of_the_object_frames(bench, bench_scenes):
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
    """Some come or go through the border of the frame, not only behind others."""
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


# What tells the classes apart


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Colours and shape of some 400 visible objects: ``(labels, colours, fill)``."""
    folder = tmp_path_factory.mktemp("sample") / "set"
    generate(folder, PRESETS["train"].override(videos=110, frames=1), seed=11)
    written = WrittenSet(folder)
    labels, colours, fill = [], [], []
    for video in written.videos:
        image = written.image(video["file_names"][0]).astype(float)
        for track in written.tracks_of(video):
            pixels = image[decode_rle(track["segmentations"][0])]
            labels.append(track["category_id"] - 1)
            colours.append([*pixels.mean(0), *pixels.std(0)])
            _, _, width, height = track["bboxes"][0]
            fill.append([len(pixels) / (width * height)])
    return np.array(labels), np.array(colours), np.array(fill)


def accuracy_of_nearest_class_mean(labels, features):
    """Learnt from the first half of the objects, measured on the second."""
    features = (features - features.mean(0)) / features.std(0)
    half = len(labels) // 2
    means = np.stack([features[:half][labels[:half] == label].mean(0) for label in range(6)])
    distance = np.linalg.norm(features[half:, None] - means, axis=2)
    return (distance.argmin(1) == labels[half:]).mean()


def test_colour_and_contrast_do_not_give_the_class_away(sample):
    labels, colours, fill = sample
    assert np.bincount(labels).min() > 50
    assert accuracy_of_nearest_class_mean(labels, colours) < 1 / 6 + 0.07  # three sigma
    # The same guess from the share of its box that an object fills does far better.
    assert accuracy_of_nearest_class_mean(labels, fill) > 1 / 6 + 0.15


def test_mean_colours_of_the_classes_are_alike(sample):
    labels, colours, _ = sample
    for label in range(6):
        mine, others = colours[labels == label], colours[labels != label]
        error = np.sqrt(mine.var(0) / len(mine) + others.var(0) / len(others))
        assert (np.abs(mine.mean(0) - others.mean(0)) < 4 * error).all()


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


def test_the_readers_open_both_files(bench):
    written, statistics = bench
    frames, classes = written.folder / "frames", written.class_names
    videos = YouTubeVisDataset(written.folder / "youtube_vis.json", frames, classes).videos
    assert [len(video.tracks) for video in videos] == statistics.objects_per_video
    assert all(path.is_file() for video in videos for path in video.paths)
    images = CocoDataset(written.folder / "coco.json", frames, classes).images
    assert sum(len(image.instances) for image in images) == statistics.object_frames


def test_video_files_get_the_frames_before_any_json_is_written(tmp_path):
    calls = []

    def write_video(path, frames, fps):
        folder = path.parents[1]
        assert not list(folder.glob("*.json")) and list(folder.rglob("*.jpg"))
        calls.append((path.relative_to(folder).as_posix(), list(frames), fps))

    generate(tmp_path / "set", TINY, 3, write_video)
    assert [call[0] for call in calls] == ["videos/0000.mp4", "videos/0001.mp4"]
    written = WrittenSet(tmp_path / "set")
    for (_, frames, fps), video in zip(calls, written.videos, strict=True):
        assert fps == TINY.fps
        for frame, name in zip(frames, video["file_names"], strict=True):
            difference = np.abs(frame.astype(int) - written.image(name))
            assert difference.mean() < 6  # JPEG keeps colours at half the resolution


# Nothing half-written, and clear errors


@pytest.mark.parametrize("stop", [InputError("disk full"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_behind(tmp_path, stop):
    def write_video(path, frames, fps):
        assert list(tmp_path.rglob("*.jpg"))
        raise stop

    with pytest.raises(type(stop)):
        generate(tmp_path / "set", TINY, 3, write_video)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"is not an empty folder"):
        generate(tmp_path, TINY, 0)
    assert files_below(tmp_path) == {"frames/mine.txt": b"keep"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file is not an empty folder"):
        generate(tmp_path / "file", TINY, 0)


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="seed -1 "):
        generate(tmp_path / "set", TINY, -1)
    assert not (tmp_path / "set").exists()


def test_objects_that_cannot_all_be_seen_are_an_error(tmp_path):
    crowded = SyntheticSettings(1, 1, 32, 32, min_objects=25, max_objects=25)
    with pytest.raises(InputError, match=r"25 objects .*32x32 pixels"):
        generate(tmp_path / "set", crowded, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"videos": 0}, "videos and frames must be at least 1"),
        ({"frames": 0}, "videos and frames must be at least 1"),
        ({"width": 31}, "frames of 31x160 pixels; width and height must be 32 to 16384"),
        ({"height": 16385}, "frames of 256x16385 pixels"),
        ({"min_objects": 0}, "0 to 6 objects per video; expected 1 <= min_objects"),
        ({"max_objects": 1}, "2 to 1 objects per video"),
        ({"diameter": (0.0, 0.5)}, "diameter 0.0..0.5 is not within 0..2"),
        ({"speed": (0.3, 0.2)}, "speed 0.3..0.2 is not within 0..2"),
        ({"meeting": 1.5}, "meeting 1.5 is not within 0..1"),
        ({"fps": 0.0}, "0 frames per second; must be above 0"),
    ],
)
def test_settings_that_no_video_can_have_are_refused(values, message):
    with pytest.raises(InputError) as error:
        SyntheticSettings(**values)
    assert message in str(error.value)


# Any number and size


def test_overrides_change_what_they_name_and_nothing_else():
    assert BENCH.override() == BENCH
    changed = BENCH.override(videos=3, frames=4, size=(320, 240), objects=(1, 2))
    assert changed == replace(
        BENCH, videos=3, frames=4, width=320, height=240, min_objects=1, max_objects=2
    )


def test_more_objects_are_smaller_and_meet_less_often():
    crowded = BENCH.override(objects=(20, 24))
    assert (crowded.min_objects, crowded.max_objects) == (20, 24)
    assert crowded.diameter == pytest.approx(tuple(side / 2 for side in BENCH.diameter))
    assert crowded.meeting == pytest.approx(BENCH.meeting / 4)


def test_many_objects_shrink_to_no_less_than_12_pixels():
    assert min(BENCH.override(objects=(200, 200)).diameter) * 160 == pytest.approx(12)


@pytest.mark.parametrize(
    ("size", "objects"),
    [((32, 32), (1, 4)), ((161, 97), (30, 30)), ((256, 160), (100, 100)), ((480, 40), (3, 3))],
)
def test_sizes_and_numbers_as_asked_for(tmp_path, size, objects):
    settings = PRESETS["train"].override(videos=2, frames=2, size=size, objects=objects)
    generate(tmp_path / "set", settings, 5)
    written = WrittenSet(tmp_path / "set")
    for video in written.videos:
        assert objects[0] <= len(written.tracks_of(video)) <= objects[1]
        assert written.image(video["file_names"][1]).shape == (size[1], size[0], 3)


def test_command_line_overrides_the_preset(tmp_path, capsys):
    words = f"--preset bench --videos 1 --frames 2 --size 80x64 --objects 3-3 --seed 4 {tmp_path}/s"
    assert cli.main(["convert-dataset", "synthetic", *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 frames, 80x64 pixels" in printed
    assert "3 to 3" in printed
    video = WrittenSet(tmp_path / "s").videos[0]
    assert (video["length"], video["width"], video["height"]) == (2, 80, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--videos 0", "expected a positive integer, got '0'"),
        ("--frames two", "expected a positive integer, got 'two'"),
        ("--size 256", "expected WxH such as 256x160, got '256'"),
        ("--size 16x160", "width and height must be 32 to 16384"),
        ("--objects 5", "expected MIN-MAX such as 2-6, got '5'"),
        ("--objects 6-2", "6 to 2 objects per video"),
        ("--objects 0-0", "0 to 0 objects per video"),
    ],
)
def test_command_line_refuses_nonsense_in_one_line(tmp_path, capsys, words, message):
    target = tmp_path / "set"
    assert cli.main(["convert-dataset", "synthetic", str(target), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not target.exists()
