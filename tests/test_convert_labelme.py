"""labelme: one JSON file per frame; label and group_id are the identity."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_support import (
    HEIGHT,
    WIDTH,
    assert_same_masks,
    assert_shows,
    read_tracks,
    reading,
    rectangle,
    refusing,
    run_convert,
    write_frame,
    write_photo,
)

from queryinst_vis.data.convert import convert_labelme
from queryinst_vis.masks import decode_rle, to_rle


def shape(label: str, points: list, group: int | None = None, kind: str = "polygon", **others):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind} | others


def box(x0: int, y0: int, x1: int, y1: int) -> list:
    """The corners of ``rectangle`` as a polygon."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def write_labelme(folder: Path, name: str, shapes: list, image: str | None = None, **others):
    """A JSON file and its image in the same folder."""
    image = image or f"{name}.jpg"
    write_frame(folder / image)
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image}
    content |= {"imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH} | others
    (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def convert(tmp_path):
    return reading(convert_labelme, tmp_path)


@pytest.fixture
def refused(tmp_path):
    return refusing(convert_labelme, tmp_path)


A, B, C = (2, 2, 10, 12), (14, 6, 20, 20), (22, 4, 30, 8)


# Images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_are_in_pixels_of_the_upright_image(convert, tmp_path, orientation):
    write_labelme(tmp_path / "data", "1", [shape("car", box(*A))])
    write_photo(tmp_path / "data" / "1.jpg", orientation, rectangle(*A))
    (video,), tracks = convert()
    assert (video["height"], video["width"]) == (HEIGHT, WIDTH)
    assert_same_masks(tracks["car", 0], [rectangle(*A)])
    assert_shows(tmp_path / "data" / "1.jpg", tracks["car", 0][0])


def test_a_file_for_the_pixels_as_stored_is_recognised_by_its_size(convert, tmp_path):
    write_labelme(tmp_path / "data", "1", [shape("car", box(*A))])
    write_photo(tmp_path / "data" / "1.jpg", 6, rectangle(*A), stored=True)
    (video,), tracks = convert()
    assert (video["height"], video["width"]) == (HEIGHT, WIDTH)
    assert_shows(tmp_path / "data" / "1.jpg", tracks["car", 0][0])


@pytest.mark.parametrize(
    "path", [r"C:\Users\me\street\1.jpg", r"\\server\street\1.jpg", "/home/me/1.jpg", "../x/1.jpg"]
)
def test_an_image_that_was_moved_with_its_file_is_found_beside_it(convert, tmp_path, path):
    write_labelme(tmp_path / "data" / "street", "1", [shape("car", box(*A))])
    file = tmp_path / "data" / "street" / "1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"imagePath": path}))
    (video,), _ = convert()
    assert video["file_names"] == ["street/1.jpg"]


def test_points_and_lines_are_skipped_and_counted(tmp_path):
    kinds = ["point", "points", "line", "linestrip", "point"]
    shapes = [shape("car", box(*B), kind=kind) for kind in kinds]
    write_labelme(tmp_path / "data", "1", [shape("car", box(*A)), *shapes])
    said = convert_labelme(tmp_path / "data", tmp_path / "set.json")
    assert "1 tracks; point shapes skipped: 2; points shapes skipped: 1" in said
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["car", 0], [rectangle(*A)])


# Identity


def test_label_and_group_are_one_instance_through_the_video(convert, tmp_path):
    folder = tmp_path / "data" / "street"
    write_labelme(folder, "1", [shape("car", box(*A), 1), shape("car", box(*B), 2)])
    write_labelme(folder, "2", [shape("car", box(*C), 2), shape("bus", box(*A), 1)])
    (video,), tracks = convert()
    assert video["file_names"] == ["street/1.jpg", "street/2.jpg"]
    assert_same_masks(tracks["car", 0], [rectangle(*A), None])
    assert_same_masks(tracks["car", 1], [rectangle(*B), rectangle(*C)])
    assert_same_masks(tracks["bus", 0], [None, rectangle(*A)])
    assert len(tracks) == 3


def test_identities_end_with_the_video(convert, tmp_path):
    for name in ("a", "b"):
        write_labelme(tmp_path / "data" / name, "1", [shape("car", box(*A), 1)])
    videos, tracks = convert()
    assert len(videos) == len(tracks) == 2


def test_shapes_of_one_identity_are_merged_into_one_mask(convert, tmp_path):
    shapes = [shape("car", box(*A), 5), shape("car", box(*B), 5), shape("car", box(*A), 5)]
    write_labelme(tmp_path / "data" / "v", "1", shapes)
    _, tracks = convert()
    assert_same_masks(tracks["car", 0], [rectangle(*A) | rectangle(*B)])
    assert len(tracks) == 1


def test_a_single_shape_needs_no_group_id(convert, tmp_path):
    folder = tmp_path / "data" / "v"
    write_labelme(folder, "1", [shape("car", box(*A)), shape("dog", box(*B))])
    write_labelme(folder, "2", [shape("car", box(*C))])
    _, tracks = convert()
    assert_same_masks(tracks["car", 0], [rectangle(*A), rectangle(*C)])
    assert_same_masks(tracks["dog", 0], [rectangle(*B), None])


def test_two_shapes_without_group_are_refused(refused, tmp_path):
    write_labelme(tmp_path / "data" / "v", "1", [shape("car", box(*A)), shape("car", box(*B))])
    message = refused()
    assert "v/1.json, shape 1: a second 'car' without group_id; give the shapes" in message


def test_a_label_with_and_without_group_is_refused(refused, tmp_path):
    write_labelme(tmp_path / "data" / "v", "1", [shape("car", box(*A), 3)])
    write_labelme(tmp_path / "data" / "v", "2", [shape("car", box(*B))])
    assert "v: some shapes 'car' have a group_id and some have none" in refused()


# Shapes


def test_rectangle_corners_may_be_in_any_order(convert, tmp_path):
    x0, y0, x1, y1 = A
    for name, points in enumerate(([[x0, y0], [x1, y1]], [[x1, y0], [x0, y1]], box(*A))):
        shapes = [shape("car", points, kind="rectangle")]
        write_labelme(tmp_path / "data" / "v", str(name), shapes)
    _, tracks = convert()
    assert_same_masks(tracks["car", 0], [rectangle(*A)] * 3)


def test_a_circle_covers_the_pixels_whose_centres_are_inside(convert, tmp_path):
    shapes = [shape("ball", [[12, 10], [15, 14]], kind="circle")]
    write_labelme(tmp_path / "data" / "v", "1", shapes)
    _, tracks = convert()
    inside = [
        [math.dist((x + 0.5, y + 0.5), (12, 10)) <= 5 for x in range(WIDTH)] for y in range(HEIGHT)
    ]
    assert_same_masks(tracks["ball", 0], [np.array(inside)])


def test_a_labelme_mask_is_placed_at_its_box(convert, tmp_path):
    patch = np.zeros((6, 9), np.uint8)
    patch[1:4, 2:8] = 1
    png = base64.b64encode(cv2.imencode(".png", patch)[1].tobytes()).decode()
    shapes = [shape("cat", [[5, 7], [13, 12]], kind="mask", mask=png)]
    write_labelme(tmp_path / "data" / "v", "1", shapes)
    _, tracks = convert()
    assert_same_masks(tracks["cat", 0], [rectangle(7, 8, 13, 11)])


@pytest.mark.parametrize("kind", ["polygon", "oriented_rectangle", None])
def test_polygons_are_filled_as_coco_fills_them(convert, tmp_path, kind):
    points = [[3.2, 2.7], [20.5, 5.1], [16.9, 18.4], [4.4, 15.8]]
    write_labelme(tmp_path / "data" / "v", "1", [shape("kite", points, kind=kind)])
    _, tracks = convert()
    flat = [value for point in points for value in point]
    expected = decode_rle(to_rle([flat], HEIGHT, WIDTH, "here"))
    assert_same_masks(tracks["kite", 0], [expected])
    assert expected.sum() > 100


def test_a_shape_without_a_pixel_is_absent(convert, tmp_path):
    folder = tmp_path / "data" / "v"
    write_labelme(folder, "1", [shape("car", [[5.1, 5.1], [5.2, 5.1], [5.2, 5.2]])])
    write_labelme(folder, "2", [shape("car", box(*A))])
    _, tracks = convert()
    assert_same_masks(tracks["car", 0], [None, rectangle(*A)])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (shape("car", box(*A), kind="cube"), "shape_type 'cube' has no area; draw polygons"),
        (shape("car", [[1, 1], [5, 5]]), "of three or more finite points"),
        (shape("car", [[1, 1], [5, 5], [3]]), "'points' is not a list of [x, y]"),
        (shape("car", [[1, 1], [5, 5], ["x", 3]]), "'points' is not a list of [x, y]"),
        (shape("car", [[1, 1], [10**400, 5], [3, 3]]), "'points' is not a list of [x, y]"),
        (shape("car", [[1, 1], [1e9, 5], [3, 3]]), "a polygon extends beyond the frame"),
        (shape("car", [[1, 1], [math.nan, 5], [3, 3]]), "of three or more finite points"),
        (shape("car", box(*A), kind="circle"), "a circle has 2 points, this one 4"),
        (shape("car", [[5, 5], [5, 5]], kind="circle"), "radii 0, 0 are not positive"),
        (shape("car", [[5, 5], [9, 9]], kind="mask"), "`mask` is missing"),
        (shape("car", [[5, 5], [9, 9]], kind="mask", mask="?"), "'mask' is not base64"),
        (shape("car", [[5, 5], [9, 9]], kind="mask", mask=""), "'mask': not readable as an image"),
        (shape("car", [[5, 5], [9, 9]], kind="mask", mask="AAAA"), "'mask': not readable as an"),
        (shape("car", box(*A), group="x"), "group_id 'x' is not an integer"),
        ({"points": box(*A)}, "`label` is missing"),
        ({"label": "car"}, "`points` is missing"),
        ("car", "must be an object, is a str"),
    ],
)
def test_broken_shapes_are_named_by_file_and_place(refused, tmp_path, broken, message):
    write_labelme(tmp_path / "data" / "v", "1", [shape("dog", box(*B)), broken])
    complaint = refused()
    assert "v/1.json, shape 1: " in complaint
    assert message in complaint


def test_a_mask_that_leaves_the_frame_is_refused(refused, tmp_path):
    png = base64.b64encode(cv2.imencode(".png", np.ones((6, 9), np.uint8))[1].tobytes()).decode()
    shapes = [shape("cat", [[25, 7], [33, 12]], kind="mask", mask=png)]
    write_labelme(tmp_path / "data" / "v", "1", shapes)
    assert "a mask over x 25 to 34, y 7 to 13 does not fit into the frame of 32x24" in refused()


# Frames


def test_frames_follow_the_numbers_in_their_names(convert, tmp_path):
    for name in ("f10", "f9", "f1"):
        write_labelme(tmp_path / "data" / "v", name, [shape("car", box(*A))])
    (video,), _ = convert()
    assert video["file_names"] == ["v/f1.jpg", "v/f9.jpg", "v/f10.jpg"]


def test_images_without_a_file_are_left_out_and_counted(convert, tmp_path):
    write_labelme(tmp_path / "data" / "v", "1", [shape("car", box(*A))])
    write_labelme(tmp_path / "data" / "v", "3", [])
    for name in ("2.jpg", "4.png"):
        write_frame(tmp_path / "data" / "v" / name)
    line = convert_labelme(tmp_path / "data", tmp_path / "set.json")
    (video,), tracks = convert()
    assert video["file_names"] == ["v/1.jpg", "v/3.jpg"]
    assert_same_masks(tracks["car", 0], [rectangle(*A), None])
    assert line.endswith("1 videos, 1 tracks; images without a JSON file left out: 2")


@pytest.mark.parametrize("path", ["../frames/1.jpg", "..\\frames\\1.jpg"])
def test_images_may_be_in_another_folder_of_the_source(convert, tmp_path, path):
    folder = tmp_path / "data" / "v"
    write_labelme(folder, "1", [shape("car", box(*A))])
    content = json.loads((folder / "1.json").read_text())
    (folder / "1.json").write_text(json.dumps(content | {"imagePath": path}))
    write_frame(tmp_path / "data" / "frames" / "1.jpg")
    (video,), _ = convert()
    assert video["file_names"] == ["frames/1.jpg"]


def test_the_source_may_be_a_single_video(convert, tmp_path):
    write_labelme(tmp_path / "data", "1", [shape("car", box(*A))])
    (video,), _ = convert()
    assert video["file_names"] == ["1.jpg"]


@pytest.mark.parametrize("image", ["../../other.jpg", "/other.jpg"])
def test_an_image_outside_the_source_is_refused(refused, tmp_path, image):
    folder = tmp_path / "data" / "v"
    write_labelme(folder, "1", [])
    content = json.loads((folder / "1.json").read_text())
    (folder / "1.json").write_text(json.dumps(content | {"imagePath": image}))
    assert "is outside" in refused()


def test_a_missing_image_is_refused(refused, tmp_path):
    write_labelme(tmp_path / "data" / "v", "1", [])
    (tmp_path / "data" / "v" / "1.jpg").unlink()
    assert refused().endswith("1.jpg: no such file")


def test_two_files_of_one_image_are_refused(refused, tmp_path):
    for name in ("1", "2"):
        write_labelme(tmp_path / "data" / "v", name, [], image="1.jpg")
    assert "image v/1.jpg occurs twice" in refused()


def test_sizes_must_agree(refused, tmp_path):
    folder = tmp_path / "data" / "v"
    write_labelme(folder, "1", [], imageHeight=WIDTH, imageWidth=HEIGHT)
    assert "1.json: its image has 32x24 pixels, the file says 24x32" in refused()
    write_labelme(folder, "1", [])
    write_labelme(folder, "2", [], imageHeight=12, imageWidth=16)
    write_frame(folder / "2.jpg", 12, 16)
    assert "2.json: its image has 16x12 pixels, the video's first has 32x24" in refused()


def test_broken_or_missing_files_are_refused(refused, tmp_path):
    folder = tmp_path / "data" / "v"
    assert "no such folder" in refused()
    write_frame(folder / "1.jpg")
    assert "neither it nor its subfolders contain a .json file" in refused()
    write_labelme(folder, "1", [])
    assert "none of its files contains a shape" in refused()
    (folder / "1.json").write_text("{")
    assert "v/1.json: not readable as JSON" in refused()
    (folder / "1.json").write_text("[]")
    assert "v/1.json: must be an object" in refused()


def test_the_command_line_converts_with_its_options(tmp_path, capsys):
    write_labelme(tmp_path / "data" / "v", "1", [shape("car", box(*A))])
    assert run_convert("labelme", tmp_path / "data", tmp_path / "set.json") == 0
    assert "1 videos, 1 tracks" in capsys.readouterr().out
