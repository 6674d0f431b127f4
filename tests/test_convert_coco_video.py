"""COCO images to pseudo-videos: a moving crop with exact masks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_support import refusal, run_convert
from data_support import HEIGHT, WIDTH, coco_content, rectangle, write_set

from queryinst_vis.data.convert import convert_coco_video
from queryinst_vis.data.convert.coco_video import FRAMES_PER_MOVE, draw_camera_path
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.masks import decode_rle


def files_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def convert(tmp_path):
    """Convert the tiny set; returns the output folder."""
    annotations, images = write_set(tmp_path / "coco", coco_content())

    def convert_to(name="video", **options):
        convert_coco_video(annotations, images, tmp_path / name, **options)
        return tmp_path / name

    return convert_to


def read_set(folder: Path) -> dict:
    return json.loads((folder / "youtube_vis.json").read_text())


def test_each_image_becomes_a_video_of_the_requested_size(convert):
    content = read_set(convert(frames=5, size=(60, 30)))
    assert [video["file_names"][4] for video in content["videos"]] == [
        "000000000070/00004.jpg",
        "000000000007/00004.jpg",
    ]
    for video in content["videos"]:
        assert (video["height"], video["width"], video["length"]) == (30, 50, 5)
    assert content["categories"] == [
        {"id": 1, "name": "dog", "supercategory": "object"},
        {"id": 2, "name": "car", "supercategory": "object"},
    ]


def test_full_size_windows_reproduce_the_image_and_its_masks(convert):
    folder = convert(frames=2, size=(WIDTH, HEIGHT), crop=(1, 1))
    content = read_set(folder)
    masks = {
        (track["category_id"], track["iscrowd"]): track["segmentations"]
        for track in content["annotations"]
    }
    dog, car = rectangle(10, 8, 30, 40), rectangle(40, 5, 75, 25)
    for key, mask in {(1, 0): dog, (2, 0): car, (1, 1): dog}.items():
        assert all(np.array_equal(decode_rle(rle), mask) for rle in masks[key])
    assert len(masks) == len(content["annotations"]) == 3
    image = cv2.imread(str(folder.parent / "coco" / "images" / "a.jpg")).astype(int)
    frame = cv2.imread(str(folder / "frames" / "000000000070" / "00001.jpg")).astype(int)
    assert np.abs(image - frame).mean() < 2


def test_masks_follow_the_object_in_every_frame(tmp_path):
    """The object is white: in every frame its pixels must agree with its mask."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = rectangle(22, 12, 52, 36)
    picture[mask] = 255
    content = coco_content()
    content["images"] = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    points = [[22, 12, 52, 12, 52, 36, 22, 36]]
    content["annotations"] = [{"id": 5, "image_id": 1, "category_id": 3, "segmentation": points}]
    annotations, images = write_set(tmp_path / "coco", content)
    assert cv2.imwrite(str(images / "a.png"), picture)
    convert_coco_video(annotations, images, tmp_path / "out", frames=12, size=(160, 96), seed=4)
    content = read_set(tmp_path / "out")
    (track,) = content["annotations"]
    names = content["videos"][0]["file_names"]
    areas = []
    for name, rle in zip(names, track["segmentations"], strict=True):
        frame = cv2.imread(str(tmp_path / "out" / "frames" / name), cv2.IMREAD_GRAYSCALE)
        shown = decode_rle(rle)
        # Resizing blurs the rim by a pixel or two; the rest must agree.
        inner = cv2.erode(shown.astype(np.uint8), np.ones((7, 7)))
        outer = cv2.dilate(shown.astype(np.uint8), np.ones((7, 7)))
        assert (frame[inner > 0] > 200).all()
        assert (frame[outer == 0] < 50).all()
        areas.append(shown.sum())
    assert len(set(areas)) > 6  # the crop is zoomed


def test_the_camera_glides_within_the_image():
    frames = 10 * FRAMES_PER_MOVE
    path = draw_camera_path(np.random.default_rng(0), frames, (0.5, 0.9))
    assert path.shape == (frames, 3)
    side, top, left = path.T
    assert ((side >= 0.5) & (side <= 0.9)).all()
    for corner in (top, left):
        assert ((corner >= 0) & (corner + side <= 1 + 1e-12)).all()
    steps = np.abs(np.diff(path, axis=0))
    assert steps.max() < 0.5 / FRAMES_PER_MOVE * 1.6  # the steepest point of the easing is 1.5
    assert (steps.max(axis=1) > 0).all()
    # No jerk: from one step to the next the speed changes little.
    assert np.abs(np.diff(path, 2, axis=0)).max() < steps.max() / 2


def test_instances_may_leave_and_unseen_instances_have_no_track(convert):
    content = read_set(convert(frames=16, crop=(0.3, 0.4), seed=1))
    tracks = content["annotations"]
    assert any(None in track["segmentations"] for track in tracks)
    assert all(any(track["segmentations"]) for track in tracks)


def test_the_same_seed_gives_the_same_videos(convert):
    first, again, other = (
        convert(name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert files_below(first) == files_below(again)
    assert files_below(first)["youtube_vis.json"] != files_below(other)["youtube_vis.json"]


def test_the_data_sets_open_both_files(convert):
    folder = convert(frames=3)
    dataset = YouTubeVisDataset(folder / "youtube_vis.json", folder / "frames", ["car", "dog"])
    assert [len(video) for video in dataset.videos] == [3, 3]
    assert all(path.is_file() for video in dataset.videos for path in video.paths)
    coco = json.loads((folder / "coco.json").read_text())
    assert len(coco["images"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "pseudo-videos of 0 frames: must be at least 1"),
        ({"size": (0, 10)}, "pseudo-videos of 0x10 pixels are not possible"),
        ({"crop": (0, 0.5)}, "windows of 0 to 0.5: expected 0 < low <= high <= 1"),
        ({"crop": (0.9, 0.5)}, "windows of 0.9 to 0.5: expected"),
        ({"crop": (float("nan"), 0.5)}, "windows of nan to 0.5: expected"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_bad_options_are_refused(convert, tmp_path, options, message):
    assert message in refusal(convert, **options)
    assert not (tmp_path / "video").exists()


def test_a_refused_set_leaves_no_output(tmp_path):
    annotations, images = write_set(tmp_path / "coco", coco_content())
    target = tmp_path / "out"
    (images / "b.jpg").rename(images / "away")
    message = refusal(convert_coco_video, annotations, images, target)
    assert f"1 of 2 images do not exist, e.g. {images / 'b.jpg'}" in message
    (images / "away").rename(images / "b.jpg")
    annotations.write_text(json.dumps(coco_content() | {"annotations": None}))
    assert "contains no annotations" in refusal(convert_coco_video, annotations, images, target)
    annotations.write_text(json.dumps(coco_content() | {"images": [], "annotations": []}))
    assert "contains no images" in refusal(convert_coco_video, annotations, images, target)
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_a_string_crowd_flag_is_refused(tmp_path):
    content = coco_content()
    content["annotations"][0]["iscrowd"] = "0"
    annotations, images = write_set(tmp_path / "coco", content)
    complaint = refusal(convert_coco_video, annotations, images, tmp_path / "out")
    assert "`iscrowd` must be 0 or 1, is '0'" in complaint


def test_command_line_passes_every_option_on(tmp_path, capsys):
    annotations, images = write_set(tmp_path / "coco", coco_content())
    options = ["--frames", "3", "--size", "40x20", "--crop", "0.8", "0.9", "--seed", "5"]
    assert run_convert("coco-video", annotations, images, tmp_path / "out", *options) == 0
    assert "2 videos" in capsys.readouterr().out
    convert_coco_video(
        annotations, images, tmp_path / "same", frames=3, size=(40, 20), crop=(0.8, 0.9), seed=5
    )
    assert files_below(tmp_path / "out") == files_below(tmp_path / "same")


def test_real_coco_images_are_converted(tmp_path):
    root = os.environ.get("QUERYINST_VIS_DATA")
    if root is None:
        pytest.skip("set QUERYINST_VIS_DATA to a folder with data/tiny_coco to run on real data")
    real = Path(root) / "data" / "tiny_coco"
    content = json.loads((real / "annotations" / "instances_val2017.json").read_text())
    content["images"] = content["images"][:5]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (tmp_path / "some.json").write_text(json.dumps(content))
    line = convert_coco_video(
        tmp_path / "some.json", real / "val2017", tmp_path / "out", frames=4, size=(160, 96)
    )
    written = read_set(tmp_path / "out")
    assert len(written["videos"]) == 5
    assert 0 < len(written["annotations"]) <= len(content["annotations"])
    assert line.startswith(f"wrote {tmp_path / 'out'}: 5 videos, ")
