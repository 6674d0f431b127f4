"""Ground truth to MOTS: reading the result back gives the same annotations."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_support import HEIGHT, WIDTH, rectangle, refusal, run_convert, write_frame

from queryinst_vis.data.convert import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    convert_mots,
    convert_to_mots,
)
from queryinst_vis.masks import encode_rle

CLASSES = ["car", "person", "dog"]
CAR, WALKER, DOG = (rectangle(4, 4, 12, 10), rectangle(16, 8, 20, 20), rectangle(24, 2, 30, 6))


def rles(*masks):
    return [None if mask is None else encode_rle(mask) for mask in masks]


def content_of(file_names, *tracks, videos: int = 1) -> dict:
    """Annotations of videos with these tracks: class, a mask or None per frame, perhaps crowd."""
    labelled = [LabelledTrack(name, rles(*masks), *crowd) for name, masks, *crowd in tracks]
    video = LabelledVideo(file_names, HEIGHT, WIDTH, labelled)
    return build_video_set([video] * videos, "a set", CLASSES)


def disjoint_set(folder: str = "v", videos: int = 1) -> dict:
    """A car, two persons and a crowd region over two frames, without any overlap."""
    return content_of(
        [f"{folder}/000003.jpg", f"{folder}/000007.jpg"],
        ("car", [CAR, None]),
        ("person", [WALKER, np.roll(WALKER, 2, axis=1)]),
        ("person", [None, DOG]),
        ("person", [rectangle(0, 21, 32, 24), None], True),
        videos=videos,
    )


@pytest.fixture
def write(tmp_path):
    """Write an annotation file and its frames; returns the arguments of the converter."""

    def write_set(content: dict) -> tuple[Path, Path]:
        (tmp_path / "set.json").write_text(json.dumps(content))
        for video in content["videos"]:
            for name in video["file_names"]:
                write_frame(tmp_path / "frames" / name)
        return tmp_path / "set.json", tmp_path / "mots"

    return write_set


def read_map(path: Path) -> np.ndarray:
    ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16
    return ids


def by_mask(content: dict) -> set[str]:
    """Tracks without their ids: class, crowd and masks."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    return {
        json.dumps([names[track["category_id"]], track["iscrowd"], track["segmentations"]])
        for track in content["annotations"]
    }


def test_pixels_are_class_times_1000_plus_number(write):
    source, target = write(disjoint_set())
    line = convert_to_mots(source, target)
    first, second = (read_map(target / "instances" / "v" / f"{n:06d}.png") for n in (3, 7))
    for ids, number, mask in (
        (first, 1001, CAR),
        (first, 2001, WALKER),
        (first, 10000, rectangle(0, 21, 32, 24)),
        (second, 2001, np.roll(WALKER, 2, axis=1)),
        (second, 2002, DOG),
    ):
        assert np.array_equal(ids == number, mask)
    assert set(np.unique(first)) == {0, 1001, 2001, 10000}
    assert line == f"wrote {target}: 1 sequences, 3 objects"


@pytest.mark.parametrize("form", ["png", "txt"])
def test_conversion_to_mots_and_back_is_lossless(write, tmp_path, form):
    content = disjoint_set()
    source, target = write(content)
    convert_to_mots(source, target, form=form, images=tmp_path / "frames")
    convert_mots(target, tmp_path / "back.json", source=form)
    back = json.loads((tmp_path / "back.json").read_text())
    assert [video["file_names"] for video in back["videos"]] == [["v/000003.jpg", "v/000007.jpg"]]
    assert by_mask(back) == by_mask(content)
    assert len(by_mask(back)) == 4


def test_text_and_instance_maps_have_the_same_content(write, tmp_path):
    source, target = write(disjoint_set())
    for form in ("png", "txt"):
        convert_to_mots(source, target / form, form=form, images=tmp_path / "frames")
        convert_mots(target / form, tmp_path / f"{form}.json")
    assert (tmp_path / "png.json").read_bytes() == (tmp_path / "txt.json").read_bytes()


def test_overlapping_pixels_go_to_the_smaller_mask(write):
    content = content_of(
        ["v/1.jpg"],
        ("person", [rectangle(10, 10, 14, 14)]),  # 16 pixels, 4 of them in the car
        ("car", [rectangle(0, 0, 12, 12)]),
        ("person", [rectangle(0, 0, 20, 20)], True),
    )
    source, target = write(content)
    line = convert_to_mots(source, target)
    ids = read_map(target / "instances" / "v" / "000001.png")
    small, large = rectangle(10, 10, 14, 14), rectangle(0, 0, 12, 12)
    assert np.array_equal(ids == 2001, small)
    assert np.array_equal(ids == 1001, large & ~small)
    assert np.array_equal(ids == 10000, rectangle(0, 0, 20, 20) & ~small & ~large)
    assert line.endswith("; pixels lost to overlapping instances: 4")


def test_of_equal_masks_the_first_track_is_kept_and_the_other_counted(write):
    source, target = write(content_of(["v/1.jpg"], ("car", [CAR]), ("car", [CAR])))
    line = convert_to_mots(source, target)
    assert set(np.unique(read_map(target / "instances" / "v" / "000001.png"))) == {0, 1001}
    assert f"pixels lost to overlapping instances: {CAR.sum()}" in line
    assert "masks completely covered by others: 1" in line


def test_videos_of_one_folder_get_sequences_of_their_own(write):
    source, target = write(disjoint_set(videos=2))
    convert_to_mots(source, target)
    assert sorted(path.name for path in (target / "instances").iterdir()) == ["v-1", "v-2"]


@pytest.mark.parametrize("folder", ["..", "."])
def test_a_folder_name_cannot_escape_the_output_folder(write, folder):
    source, target = write(disjoint_set(folder))
    convert_to_mots(source, target)
    assert [path.name for path in (target / "instances").iterdir()] == ["1"]


@pytest.mark.parametrize("names", [("b.jpg", "a.jpg"), ("7.jpg", "3.jpg"), ("1.jpg", "01.jpg")])
def test_frames_without_rising_numbers_are_counted_from_1(write, names):
    content = disjoint_set()
    content["videos"][0]["file_names"] = [f"v/{name}" for name in names]
    source, target = write(content)
    convert_to_mots(source, target)
    found = sorted(path.name for path in (target / "instances" / "v").iterdir())
    assert found == ["000001.png", "000002.png"]
    assert 1001 in read_map(target / "instances" / "v" / "000001.png")


@pytest.mark.parametrize(
    ("kind", "expected"), [("car", 1002), ("person", 2002), ("ignore", 10000), ("none", 0)]
)
def test_classes_are_mapped_to_the_given_mots_classes(write, kind, expected):
    tracks = zip(CLASSES, [[CAR], [WALKER], [DOG]], strict=True)
    source, target = write(content_of(["v/1.jpg"], *tracks))
    convert_to_mots(source, target, classes={"dog": kind})
    ids = read_map(target / "instances" / "v" / "000001.png")
    assert set(np.unique(ids[DOG])) == {expected}
    assert set(np.unique(ids[WALKER])) == {2001}


@pytest.mark.parametrize("name", ["pedestrian", "Person"])
def test_a_pedestrian_is_a_person(write, name):
    content = disjoint_set()
    content["categories"][1]["name"] = name
    source, target = write(content)
    convert_to_mots(source, target)
    assert 2001 in read_map(target / "instances" / "v" / "000003.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "class 'dog' is not in MOTS (car, person); map it, e.g. --class dog="),
        ({"classes": {"dog": "cat"}}, "class 'dog' as 'cat': choose car, person, ignore, none"),
        ({"classes": {"cat": "car"}}, "has no class 'cat', only car, person, dog"),
        ({"form": "xml"}, "MOTS form 'xml': choose png or txt"),
        ({"images": "nowhere", "classes": {"dog": "none"}}, "v/000003.jpg: no such .jpg or .png"),
    ],
)
def test_bad_options_are_refused_without_output(write, tmp_path, options, message):
    content = disjoint_set()
    content["annotations"][0]["category_id"] = 3
    source, target = write(content)
    before = set(tmp_path.iterdir())
    assert message in refusal(convert_to_mots, source, target, **options)
    assert set(tmp_path.iterdir()) == before


def test_ids_end_at_999_of_a_class(write):
    content = disjoint_set()
    content["annotations"] = content["annotations"][:1] * 1000
    source, target = write(content)
    assert "video 1: more than 999 objects" in refusal(convert_to_mots, source, target)


def test_a_set_without_annotations_is_refused(write):
    source, target = write(disjoint_set() | {"annotations": None})
    assert "contains no annotations" in refusal(convert_to_mots, source, target)


def test_a_non_empty_target_folder_is_not_modified(write):
    source, target = write(disjoint_set())
    write_frame(target / "mine.jpg")
    assert "is not an empty folder" in refusal(convert_to_mots, source, target)
    assert [path.name for path in target.iterdir()] == ["mine.jpg"]


def test_the_command_line_converts_with_its_options(write, tmp_path, capsys):
    content = disjoint_set()
    content["annotations"][0]["category_id"] = 3
    source, target = write(content)
    options = ["--form", "txt", "--images", tmp_path / "frames", "--class", "dog=car"]
    assert run_convert("to-mots", source, target, *options) == 0
    assert "1 sequences, 3 objects" in capsys.readouterr().out
    lines = (target / "instances_txt" / "v.txt").read_text().splitlines()
    assert lines[0].startswith(f"3 1001 1 {HEIGHT} {WIDTH} ")
    assert (target / "images" / "v" / "000007.jpg").is_file()
    assert run_convert("to-mots", source, tmp_path / "other", "--class", "dog") == 2
    assert "expected NAME=KIND such as truck=car, got 'dog'" in capsys.readouterr().err
