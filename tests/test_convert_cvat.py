"""CVAT for video 1.1: tracks of polygons, masks, boxes and ellipses in one XML file."""

from __future__ import annotations

from pathlib import Path

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

from queryinst_vis.data.convert import convert_cvat

META = (
    "<meta><task><name>t</name><size>3</size>"
    f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size>"
    "</task></meta>"
)
ONE = META.replace("<size>3", "<size>1")


def polygon(frame: int, x0: int, y0: int, x1: int, y1: int, outside: int = 0) -> str:
    points = f"{x0}.00,{y0}.00;{x1}.00,{y0}.00;{x1}.00,{y1}.00;{x0}.00,{y1}.00"
    return f'<polygon frame="{frame}" outside="{outside}" occluded="0" points="{points}"/>'


def shape(tag: str, frame: int = 0, **attributes: object) -> str:
    listed = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f'<{tag} frame="{frame}" outside="0" {listed}/>'


def track(identity: int, label: str, *shapes: str, group: int | None = None) -> str:
    group_id = "" if group is None else f' group_id="{group}"'
    return f'<track id="{identity}" label="{label}"{group_id}>{"".join(shapes)}</track>'


def write_cvat(folder: Path, *tracks: str, names=None, meta: str = META, head: str = "") -> None:
    """An export with three frames."""
    for name in names or [f"frame_{number:06d}.png" for number in range(3)]:
        write_frame(folder / "images" / name)
    body = f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"
    (folder / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>{head}{body}')


@pytest.fixture
def convert(tmp_path):
    return reading(convert_cvat, tmp_path)


@pytest.fixture
def refused(tmp_path):
    return refusing(convert_cvat, tmp_path)


A, B = (2, 2, 10, 12), (14, 6, 20, 20)


def test_cvat_tracks_become_tracks_with_their_classes_and_masks(convert, tmp_path):
    write_cvat(
        tmp_path / "data" / "street",
        track(0, "car", polygon(0, *A), polygon(1, *B), polygon(2, *B, outside=1)),
        track(1, "car", polygon(2, *A)),
        track(2, "bus", polygon(1, *A)),
    )
    (video,), tracks = convert()
    assert video["file_names"] == [f"street/images/frame_00000{n}.png" for n in range(3)]
    assert_same_masks(tracks["car", 0], [rectangle(*A), rectangle(*B), None])
    assert_same_masks(tracks["car", 1], [None, None, rectangle(*A)])
    assert_same_masks(tracks["bus", 0], [None, rectangle(*A), None])
    assert len(tracks) == 3


def test_several_exports_become_several_videos(convert, tmp_path):
    for name in ("b", "a"):
        write_cvat(tmp_path / "data" / name, track(0, "car", polygon(0, *A)))
    videos, tracks = convert()
    assert [video["file_names"][0][0] for video in videos] == ["a", "b"]
    assert len(tracks) == 2


def test_the_source_may_be_a_single_export_with_frames_beside(convert, tmp_path):
    write_cvat(tmp_path / "data", track(0, "car", polygon(0, *A)))
    for path in (tmp_path / "data" / "images").iterdir():
        path.rename(tmp_path / "data" / path.name)
    (tmp_path / "data" / "images").rmdir()
    (video,), _ = convert()
    assert video["file_names"] == [f"frame_00000{number}.png" for number in range(3)]


# Frame numbers


def test_cvat_file_names_determine_the_frame_numbers(convert, tmp_path):
    names = ["frame_000010.png", "frame_000005.png"]
    write_cvat(tmp_path / "data" / "v", track(0, "car", polygon(10, *A)), names=names)
    (video,), tracks = convert()
    assert [Path(name).stem for name in video["file_names"]] == ["frame_000005", "frame_000010"]
    assert_same_masks(tracks["car", 0], [None, rectangle(*A)])


def test_other_names_are_counted_from_0_in_their_order(convert, tmp_path):
    names = ["c.png", "a.png", "b.png"]
    write_cvat(tmp_path / "data" / "v", track(0, "car", polygon(1, *A)), names=names)
    (video,), tracks = convert()
    assert [Path(name).stem for name in video["file_names"]] == ["a", "b", "c"]
    assert_same_masks(tracks["car", 0], [None, rectangle(*A), None])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "b.png"], "contains 2 images, but the CVAT task has 3; a subset"),
        (["1.png", "2.png", "10.png"], "differ in length, so their order is ambiguous"),
    ],
)
def test_ambiguous_file_names_are_refused(refused, tmp_path, names, message):
    write_cvat(tmp_path / "data" / "v", track(0, "car", polygon(1, *A)), names=names)
    assert message in refused()


# Shapes


def test_cvat_masks_are_decoded_row_by_row_within_their_box(convert, tmp_path):
    patch = np.zeros((3, 4), bool)
    patch[0, 1:] = patch[1, :2] = patch[2, 3] = True
    runs = "1, 5, 5, 1"  # 1 off, 3 + 2 on, 2 + 3 off, 1 on
    mask = shape("mask", rle=runs, left=6, top=9, width=4, height=3)
    write_cvat(tmp_path / "data" / "v", track(0, "car", mask))
    _, tracks = convert()
    expected = rectangle(0, 0, 0, 0)
    expected[9:12, 6:10] = patch
    assert_same_masks(tracks["car", 0], [expected, None, None])


def test_boxes_become_filled_masks_and_may_be_rotated(convert, tmp_path):
    corners = {"xtl": "4.00", "ytl": "8.00", "xbr": "16.00", "ybr": "12.00"}
    write_cvat(
        tmp_path / "data" / "v",
        track(0, "car", shape("box", 0, **corners), shape("box", 1, **corners, rotation="90.0")),
    )
    _, tracks = convert()
    turned = rectangle(8, 4, 12, 16)
    assert_same_masks(tracks["car", 0], [rectangle(4, 8, 16, 12), turned, None])


def test_an_ellipse_covers_the_pixels_whose_centres_are_inside(convert, tmp_path):
    attributes = {"cx": "12.0", "cy": "10.0", "rx": "8.0", "ry": "4.0"}
    turned = attributes | {"rotation": "90.0"}
    shapes = shape("ellipse", 0, **attributes), shape("ellipse", 1, **turned)
    write_cvat(tmp_path / "data" / "v", track(0, "car", *shapes))
    _, tracks = convert()
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    flat = ((columns - 12) / 8) ** 2 + ((rows - 10) / 4) ** 2 <= 1
    upright = ((columns - 12) / 4) ** 2 + ((rows - 10) / 8) ** 2 <= 1
    assert_same_masks(tracks["car", 0], [flat, upright, None])


def test_masks_are_joined_by_their_group_on_request(convert, tmp_path):
    write_cvat(
        tmp_path / "data" / "v",
        track(0, "car", polygon(0, *A), group=4),
        track(1, "car", polygon(1, *B), group=4),
        track(2, "bus", polygon(1, *B), group=4),
        track(3, "car", polygon(2, *B), group=0),
    )
    _, tracks = convert(by_group=True)
    assert_same_masks(tracks["car", 0], [rectangle(*A), rectangle(*B), None])
    assert_same_masks(tracks["car", 1], [None, None, rectangle(*B)])
    assert_same_masks(tracks["bus", 0], [None, rectangle(*B), None])
    assert len(tracks) == 3
    assert len(convert()[1]) == 4


POINTS = "1,1;9,1;9,9"
BOX = {"xtl": 1, "ytl": 1, "xbr": 9, "ybr": 9}
MASK = {"rle": "2, 2", "left": 1, "top": 1, "width": 2, "height": 2}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (shape("cuboid"), "a cuboid has no area; draw polygons, masks"),
        (shape("polygon"), "'points' is not x,y;x,y;..."),
        (shape("polygon", points="1,1;2"), "'points' is not x,y;x,y;..."),
        (shape("polygon", points="1,1;2,2"), "of three or more finite points"),
        (shape("polygon", points="1,1;2,2;nan,3"), "of three or more finite points"),
        (shape("polygon", points="1,1;2,2;1e12,3"), "a polygon extends beyond the frame"),
        (shape("box", xtl=1), "'ytl' is None, not a number"),
        (shape("box", **BOX, rotation="inf"), "'rotation' is 'inf', not a number"),
        (shape("ellipse", cx=1, cy=1, rx=0, ry=3), "radii 0, 3 are not positive"),
        (shape("ellipse", cx=1, cy=1, rx=1e9, ry=3), "is far outside the frame"),
        (shape("mask", **MASK | {"rle": "2, 1"}), "'rle' does not fill its 2x2 pixels"),
        (shape("mask", **MASK | {"rle": "6, -2"}), "'rle' does not fill its 2x2 pixels"),
        (shape("mask", **MASK | {"rle": "x"}), "'rle' is not n, n, n, ..."),
        (shape("mask", **MASK | {"rle": "9" * 5000}), "'rle' is not n, n, n, ..."),
        (shape("mask", **MASK | {"width": 0}), "does not fit into the frame of 32x24"),
        (shape("mask", **MASK | {"width": 999999999}), "does not fit into the frame of 32x24"),
        (shape("mask", **MASK | {"left": -1}), "'left' is '-1', not an integer"),
    ],
)
def test_broken_shapes_are_named_by_track_and_frame(refused, tmp_path, broken, message):
    write_cvat(tmp_path / "data" / "v", track(7, "car", broken))
    complaint = refused()
    assert "v/annotations.xml, track 7, frame 0: " in complaint
    assert message in complaint


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (track(7, "car", polygon(3, *A)), "track 7, frame 3: no image of this frame"),
        (track(7, "car", "<polygon/>"), "track 7: 'frame' is None, not an integer"),
        (track(7, "", polygon(0, *A)), "track 7: 'label' is missing"),
        (track(7, "car") * 2, "track id 7 occurs twice"),
        ("", "no file contains a track"),
        ("<track", "v/annotations.xml: not readable as XML"),
        ('<image id="0" name="a"/>', 'is "CVAT for images"; export the task as'),
        ("<meta><project/></meta>", "is a project, whose tasks share frame numbers"),
    ],
)
def test_broken_files_are_refused(refused, tmp_path, broken, message):
    write_cvat(tmp_path / "data" / "v", broken, meta="" if "project" in broken else META)
    assert message in refused()


def test_xml_entities_are_refused(refused, tmp_path):
    """A few lines of XML can define a gigabyte of text, or name a file to be read."""
    bomb = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    head = f'<!DOCTYPE annotations [<!ENTITY e0 "bomb">{bomb}]>'
    write_cvat(tmp_path / "data" / "v", track(0, "&e9;", polygon(0, *A)), head=head)
    path = tmp_path / "data" / "v" / "annotations.xml"
    assert "v/annotations.xml: has a document type declaration" in refused()
    # In an encoding that hides the words from a search, the file is not read at all.
    path.write_text(path.read_text().replace("utf-8", "utf-16"), encoding="utf-16")
    assert "v/annotations.xml: not readable as XML" in refused()


def test_sizes_must_agree(refused, tmp_path):
    meta = META.replace(f"<width>{WIDTH}", "<width>64")
    write_cvat(tmp_path / "data" / "v", track(0, "car", polygon(0, *A)), meta=meta)
    assert "is for frames of 64x24 pixels, the images have 32x24" in refused()
    write_frame(tmp_path / "data" / "v" / "images" / "frame_000001.png", 12, 16)
    assert "frame_000001.png: 16x12 pixels, others 32x24" in refused()


def test_missing_files_are_refused(refused, tmp_path):
    assert "no such folder" in refused()
    (tmp_path / "data" / "v").mkdir(parents=True)
    assert "neither it nor its subfolders contain annotations.xml" in refused()
    (tmp_path / "data" / "v" / "annotations.xml").write_text("<other/>")
    assert "its root is <other>, CVAT's is <annotations>" in refused()
    (tmp_path / "data" / "v" / "annotations.xml").write_text("<annotations/>")
    assert "v: neither it nor its subfolders contain image files" in refused()


def test_shapes_without_area_are_skipped_and_counted(tmp_path):
    shapes = [shape(tag, points=POINTS) for tag in ("points", "polyline", "skeleton", "points")]
    write_cvat(tmp_path / "data", track(0, "car", polygon(0, *A)), track(1, "car", *shapes))
    said = convert_cvat(tmp_path / "data", tmp_path / "set.json")
    assert said.endswith(
        "1 tracks; points shapes skipped: 2; polyline shapes skipped: 1; skeleton shapes skipped: 1"
    )
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["car", 0], [rectangle(*A), None, None])


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_frames_may_lie_in_folders(convert, tmp_path, suffix):
    names = [f"{camera}/frame_{n:06d}{suffix}" for camera in ("cam1", "cam2") for n in range(2)]
    meta = META.replace("<size>3", "<size>4")
    write_cvat(tmp_path / "data", track(0, "car", polygon(2, *A)), names=names, meta=meta)
    (video,), tracks = convert()
    assert video["file_names"] == [f"images/{name}" for name in names]
    assert_same_masks(tracks["car", 0], [None, None, rectangle(*A), None])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_coordinates_are_those_of_the_upright_frame(convert, tmp_path, orientation):
    write_cvat(tmp_path / "data", track(0, "car", polygon(0, *A)), names=["a.jpg"], meta=ONE)
    write_photo(tmp_path / "data" / "images" / "a.jpg", orientation, rectangle(*A))
    (video,), tracks = convert()
    assert (video["height"], video["width"]) == (HEIGHT, WIDTH)
    assert_shows(tmp_path / "data" / "images" / "a.jpg", tracks["car", 0][0])


def test_an_export_for_the_pixels_as_stored_is_recognised_by_its_size(convert, tmp_path):
    write_cvat(tmp_path / "data", track(0, "car", polygon(0, *A)), names=["a.jpg"], meta=ONE)
    write_photo(tmp_path / "data" / "images" / "a.jpg", 6, rectangle(*A), stored=True)
    (video,), tracks = convert()
    assert (video["height"], video["width"]) == (HEIGHT, WIDTH)
    assert_shows(tmp_path / "data" / "images" / "a.jpg", tracks["car", 0][0])


def test_a_byte_order_mark_is_skipped(convert, tmp_path):
    write_cvat(tmp_path / "data", track(0, "car", polygon(0, *A)))
    path = tmp_path / "data" / "annotations.xml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(convert()[1]) == 1


def test_the_command_line_converts_with_its_options(tmp_path, capsys):
    tracks = [track(n, "car", polygon(n, *A), group=1) for n in range(3)]
    write_cvat(tmp_path / "data" / "v", *tracks)
    assert run_convert("cvat", tmp_path / "data", tmp_path / "set.json", "--by-group") == 0
    assert "1 videos, 1 tracks" in capsys.readouterr().out
