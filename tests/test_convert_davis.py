"""DAVIS and YouTube-VOS: the indices of palette PNGs are the objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from convert_support import (
    HEIGHT,
    WIDTH,
    assert_same_masks,
    read_tracks,
    rectangle,
    refusal,
    run_convert,
    write_frame,
)
from PIL import Image

from queryinst_vis.data.convert import convert_davis

FIRST, SECOND, VOID = rectangle(2, 2, 10, 12), rectangle(14, 6, 20, 20), rectangle(0, 22, 32, 24)
# Two colours that OpenCV could not tell apart stand for different indices.
PALETTE = [0, 0, 0, 128, 0, 0, 128, 0, 0] + [7, 7, 7] * 253


def indices(*masks: tuple[int, np.ndarray]) -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index, mask in masks:
        ids[mask] = index
    return ids


def write_png(path: Path, ids: np.ndarray, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids)
    if palette:
        image.putpalette(PALETTE)
    image.save(path)
    with Image.open(path) as written:
        assert written.mode == ("P" if palette else "L")


def write_sequence(root: Path, name: str, maps: list[np.ndarray | None], level: str = "480p"):
    """Frames, and a PNG for every given map."""
    for number, ids in enumerate(maps):
        write_frame(root / "JPEGImages" / level / name / f"{number:05d}.jpg")
        if ids is not None:
            write_png(root / "Annotations" / level / name / f"{number:05d}.png", ids)


@pytest.fixture
def davis(tmp_path):
    """Sequence bear: object 1 in both frames, object 2 in the second, void in the first."""
    maps = [indices((1, FIRST), (255, VOID)), indices((1, FIRST), (2, SECOND))]
    write_sequence(tmp_path / "DAVIS", "bear", maps)
    return tmp_path / "DAVIS"


def test_palette_indices_not_colours_identify_objects(davis, tmp_path):
    line = convert_davis(davis, tmp_path / "set.json")
    (video,), tracks = read_tracks(tmp_path / "set.json")
    assert video["file_names"] == ["bear/00000.jpg", "bear/00001.jpg"]
    assert (video["height"], video["width"]) == (HEIGHT, WIDTH)
    assert_same_masks(tracks["object", 0], [FIRST, FIRST])
    assert_same_masks(tracks["object", 1], [None, SECOND])
    assert line == f"wrote {tmp_path / 'set.json'}: 1 videos, 3 tracks"


def test_void_is_a_crowd(davis, tmp_path):
    convert_davis(davis, tmp_path / "set.json")
    annotations = json.loads((tmp_path / "set.json").read_text())["annotations"]
    assert [track["iscrowd"] for track in annotations] == [0, 0, 1]
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["object", 2], [VOID, None])


def test_greyscale_pngs_are_read_as_indices(davis, tmp_path):
    path = davis / "Annotations" / "480p" / "bear" / "00000.png"
    write_png(path, indices((1, SECOND)), palette=False)
    convert_davis(davis, tmp_path / "set.json")
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["object", 0], [SECOND, FIRST])


def test_frames_without_a_png_are_left_out_and_counted(tmp_path):
    root = tmp_path / "DAVIS"
    write_sequence(root, "bear", [None, indices((1, FIRST)), None, None])
    line = convert_davis(root, tmp_path / "set.json")
    (video,), tracks = read_tracks(tmp_path / "set.json")
    assert video["file_names"] == ["bear/00001.jpg"]
    assert_same_masks(tracks["object", 0], [FIRST])
    assert line.endswith("1 videos, 1 tracks; frames without a PNG left out: 3")


def test_folders_without_a_resolution_level_are_read(tmp_path):
    write_sequence(tmp_path / "vos", "0a49", [indices((1, FIRST))], level=".")
    convert_davis(tmp_path / "vos", tmp_path / "set.json")
    (video,), _ = read_tracks(tmp_path / "set.json")
    assert video["file_names"] == ["0a49/00000.jpg"]


def test_one_of_several_resolutions_must_be_chosen(davis, tmp_path):
    write_sequence(davis, "bear", [indices((1, SECOND))], level="1080p")
    message = refusal(convert_davis, davis, tmp_path / "set.json")
    assert message.endswith("contains 1080p, 480p; choose a resolution")
    convert_davis(davis, tmp_path / "set.json", resolution="1080p")
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["object", 0], [SECOND])


def test_a_list_chooses_the_sequences(davis, tmp_path):
    for name in ("cow", "dog"):
        write_sequence(davis, name, [indices((1, FIRST))])
    (davis / "val.txt").write_text("dog\nbear\n")
    convert_davis(davis, tmp_path / "set.json", sequences=davis / "val.txt")
    videos, _ = read_tracks(tmp_path / "set.json")
    assert [video["file_names"][0] for video in videos] == ["dog/00000.jpg", "bear/00000.jpg"]


def test_meta_names_the_classes_of_objects(davis, tmp_path):
    objects = {"1": {"category": "cat"}, "2": {"category": "ape", "frames": ["00001"]}}
    others = {"1": {"category": "bee"}}
    videos = {"bear": {"objects": objects}, "other": {"objects": others}}
    (davis / "meta.json").write_text(json.dumps({"videos": videos}))
    convert_davis(davis, tmp_path / "set.json", meta=davis / "meta.json")
    content = json.loads((tmp_path / "set.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["ape", "bee", "cat"]
    _, tracks = read_tracks(tmp_path / "set.json")
    assert_same_masks(tracks["cat", 0], [FIRST, FIRST])
    assert_same_masks(tracks["ape", 0], [None, SECOND])
    # Void is an ignore region for both classes of the sequence.
    assert_same_masks(tracks["cat", 1], [VOID, None])
    assert_same_masks(tracks["ape", 1], [VOID, None])
    assert len(tracks) == 4


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "`videos` is missing"),
        ({"videos": {"bear": {}}}, "video bear: `objects` is missing"),
        ({"videos": {"bear": {"objects": {"x": {}}}}}, "bear: object 'x' is not a palette index"),
        ({"videos": {"bear": {"objects": {"1": {}}}}}, "object 1: `category` is missing"),
        (
            {"videos": {"bear": {"objects": {"1": {"category": "cat"}}}}},
            "object 2 of this sequence is not in",
        ),
    ],
)
def test_a_broken_meta_file_is_refused(davis, tmp_path, meta, message):
    (davis / "meta.json").write_text(json.dumps(meta))
    options = {"meta": davis / "meta.json"}
    assert message in refusal(convert_davis, davis, tmp_path / "set.json", **options)
    assert not (tmp_path / "set.json").exists()


def remove_frames(root: Path) -> None:
    (root / "JPEGImages" / "480p" / "bear").rename(root / "elsewhere")


def remove_a_frame(root: Path) -> None:
    (root / "JPEGImages" / "480p" / "bear" / "00001.jpg").unlink()


def spoil_a_png(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear" / "00001.png").write_bytes(b"no PNG")


def cut_a_png(root: Path) -> None:
    path = root / "Annotations" / "480p" / "bear" / "00001.png"
    path.write_bytes(path.read_bytes()[:60])


def colour_a_png(root: Path) -> None:
    path = root / "Annotations" / "480p" / "bear" / "00001.png"
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)


def shrink_a_png(root: Path) -> None:
    write_png(root / "Annotations" / "480p" / "bear" / "00001.png", np.ones((4, 6), np.uint8))


def use_davis_2016(root: Path) -> None:
    for number in (0, 1):
        path = root / "Annotations" / "480p" / "bear" / f"{number:05d}.png"
        write_png(path, indices((255, FIRST)), palette=False)


def remove_annotations(root: Path) -> None:
    (root / "Annotations").rename(root / "elsewhere")


def empty_a_sequence(root: Path) -> None:
    for part in ("Annotations", "JPEGImages"):
        (root / part / "480p" / "cow").mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_frames, "bear: no such folder; it should contain the frames for"),
        (remove_a_frame, "00001.png: has no frame 00001.jpg in"),
        (spoil_a_png, "00001.png: not readable as an image"),
        (cut_a_png, "00001.png: not readable as an image"),
        (colour_a_png, "00001.png: expected an 8-bit palette or grey image, got mode RGB"),
        (shrink_a_png, "00001.png: 6x4 pixels, its sequence 32x24"),
        (use_davis_2016, "bear: the only index is 255, which is void; the masks of DAVIS 2016"),
        (remove_annotations, "Annotations: no such folder; it should contain one folder for each"),
        (empty_a_sequence, "cow: contains no PNG files"),
    ],
)
def test_damaged_input_is_named_and_nothing_is_written(davis, tmp_path, damage, message):
    damage(davis)
    assert message in refusal(convert_davis, davis, tmp_path / "set.json")
    assert not (tmp_path / "set.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no sequence"),
        ("bear cow", "'cow' is not a folder in"),
        ("../480p/bear", "'../480p/bear' is not a folder in"),
    ],
)
def test_a_list_of_other_sequences_is_refused(davis, tmp_path, text, message):
    (davis / "val.txt").write_text(text)
    options = {"sequences": davis / "val.txt"}
    assert message in refusal(convert_davis, davis, tmp_path / "set.json", **options)


def test_command_line_passes_every_option_on(davis, tmp_path, capsys):
    (davis / "Annotations").rename(davis / "Masks")
    (davis / "val.txt").write_text("bear")
    objects = {str(index): {"category": "cat"} for index in (1, 2)}
    (davis / "meta.json").write_text(json.dumps({"videos": {"bear": {"objects": objects}}}))
    options = ["--annotations", "Masks", "--resolution", "480p"]
    options += ["--sequences", davis / "val.txt", "--meta", davis / "meta.json"]
    assert run_convert("davis", davis, tmp_path / "set.json", *options) == 0
    assert "1 videos, 3 tracks" in capsys.readouterr().out
    assert ("cat", 1) in read_tracks(tmp_path / "set.json")[1]
