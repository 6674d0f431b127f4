"""Conversion of MOTS folders, as PNG instance maps or as text, to YouTube-VIS and COCO."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_support import HEIGHT, WIDTH
from pycocotools.coco import COCO

from queryinst_vis import cli
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.convert import convert_mots
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle, encode_rle

CAR, PERSON, IGNORE = 1001, 2007, 10000


def instance_map(frame: int) -> np.ndarray:
    """A person moves right by 2 pixels per frame in front of a car; the top strip is ignored."""
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    ids[:3] = IGNORE
    ids[8:20, 5:15] = CAR
    ids[10:22, 2 * frame : 2 * frame + 4] = PERSON
    return ids


def write_map(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), ids)


def write_sequence(source: Path, name: str, numbers, form: str = "png") -> None:
    """Images, and either instance maps or text, of these frame numbers."""
    lines = []
    for number in numbers:
        ids = instance_map(number)
        write_map(source / "images" / name / f"{number:06d}.jpg", (ids // 40).astype(np.uint8))
        if form == "png":
            write_map(source / "instances" / name / f"{number:06d}.png", ids)
        lines += text_lines(number, ids)
    if form == "txt":
        write_text(source, name, lines)


def text_lines(number: int, ids: np.ndarray) -> list[str]:
    return [
        f"{number} {identity} {identity // 1000} {HEIGHT} {WIDTH} "
        f"{encode_rle(ids == identity)['counts']}"
        for identity in np.unique(ids[ids > 0])
    ]


def write_text(source: Path, name: str, lines: list[str]) -> None:
    (source / "instances_txt").mkdir(parents=True, exist_ok=True)
    (source / "instances_txt" / f"{name}.txt").write_text("\n".join(lines) + "\n")


def convert(folder: Path, target: Path, **options):
    convert_mots(folder, target, **options)
    return json.loads(target.read_text())


@pytest.fixture
def mots(tmp_path):
    """A folder of one sequence of 8 frames as instance maps."""
    write_sequence(tmp_path / "mots", "0001", range(1, 9))
    return tmp_path / "mots"


# Output


def test_masks_identities_and_classes_are_those_of_the_instance_maps(mots, tmp_path):
    content = convert(mots, tmp_path / "set.json")
    (video,) = content["videos"]
    assert video["file_names"] == [f"0001/{number:06d}.jpg" for number in range(1, 9)]
    assert (video["height"], video["width"], video["length"]) == (HEIGHT, WIDTH, 8)
    assert content["categories"] == [
        {"id": 1, "name": "car", "supercategory": "object"},
        {"id": 2, "name": "person", "supercategory": "object"},
    ]
    tracks = {(track["category_id"], track["iscrowd"]): track for track in content["annotations"]}
    assert len(tracks) == len(content["annotations"]) == 3
    for key, identity in {(1, 0): CAR, (2, 0): PERSON, (2, 1): IGNORE}.items():
        for number in range(1, 9):
            mask = instance_map(number) == identity
            rle = tracks[key]["segmentations"][number - 1]
            assert np.array_equal(decode_rle(rle), mask)
            assert tracks[key]["areas"][number - 1] == mask.sum()
    assert tracks[(2, 0)]["bboxes"][2] == [6, 10, 4, 12]


def test_an_object_is_null_in_frames_that_do_not_show_it(mots, tmp_path):
    write_map(mots / "instances" / "0001" / "000003.png", np.zeros((HEIGHT, WIDTH), np.uint16))
    for track in convert(mots, tmp_path / "set.json")["annotations"]:
        absent = [index for index, rle in enumerate(track["segmentations"]) if rle is None]
        assert absent == [2]
        assert track["bboxes"][2] is None
        assert track["areas"][2] is None


def test_text_gives_the_same_file_as_maps(mots, tmp_path):
    write_sequence(tmp_path / "text", "0001", range(1, 9), form="txt")
    maps, text = tmp_path / "maps.json", tmp_path / "text.json"
    convert_mots(mots, maps)
    convert_mots(tmp_path / "text", text)
    assert maps.read_bytes() == text.read_bytes()


def test_source_chooses_between_maps_and_text(mots, tmp_path):
    write_text(mots, "0001", text_lines(1, instance_map(1)))  # the first frame alone

    def annotated_frames(**options):
        content = convert(mots, tmp_path / "set.json", **options)
        return sum(rle is not None for rle in content["annotations"][0]["segmentations"])

    assert annotated_frames() == annotated_frames(source="png") == 8
    assert annotated_frames(source="txt") == 1


def test_frames_follow_their_numbers_and_sequences_their_names(tmp_path):
    write_sequence(tmp_path / "mots", "b", [1, 2])
    write_sequence(tmp_path / "mots", "a", [1])
    for folder, suffix in (("images", "jpg"), ("instances", "png")):
        below = tmp_path / "mots" / folder / "b"
        (below / f"000001.{suffix}").rename(below / f"10.{suffix}")
        (below / f"000002.{suffix}").rename(below / f"9.{suffix}")
    videos = convert(tmp_path / "mots", tmp_path / "set.json")["videos"]
    assert [video["file_names"] for video in videos] == [["a/000001.jpg"], ["b/9.jpg", "b/10.jpg"]]


@pytest.mark.parametrize(("start", "end", "frames"), [(0.75, 1, [7, 8]), (0.25, 0.5, [3, 4])])
def test_start_and_end_select_a_range_of_each_sequence(mots, tmp_path, start, end, frames):
    (video,) = convert(mots, tmp_path / "set.json", start=start, end=end)["videos"]
    assert video["file_names"] == [f"0001/{number:06d}.jpg" for number in frames]


def test_sequences_can_be_selected(tmp_path):
    for name in ("a", "b", "c"):
        write_sequence(tmp_path / "mots", name, [1])

    def chosen(names):
        videos = convert(tmp_path / "mots", tmp_path / "set.json", sequences=names)["videos"]
        return [video["file_names"][0].split("/")[0] for video in videos]

    assert chosen(None) == ["a", "b", "c"]
    assert chosen(["c", "a"]) == ["a", "c"]


@pytest.mark.parametrize("border", [0.1, 0.3, 0.5, 0.71])
def test_adjacent_parts_share_no_frame_and_lose_none(mots, tmp_path, border):
    names = []
    for start, end in ((0, border), (border, 1)):
        for video in convert(mots, tmp_path / "set.json", start=start, end=end)["videos"]:
            names += video["file_names"]
    assert names == [f"0001/{number:06d}.jpg" for number in range(1, 9)]


def test_clip_length_cuts_sequences_into_videos(mots, tmp_path):
    content = convert(mots, tmp_path / "set.json", clip_length=3)
    assert [video["length"] for video in content["videos"]] == [3, 3, 2]
    assert [name for video in content["videos"] for name in video["file_names"]] == [
        f"0001/{number:06d}.jpg" for number in range(1, 9)
    ]
    for video in content["videos"]:
        tracks = [a for a in content["annotations"] if a["video_id"] == video["id"]]
        assert [len(track["segmentations"]) for track in tracks] == [video["length"]] * 3


def test_coco_file_holds_the_same_frames_and_masks(mots, tmp_path):
    content = convert(mots, tmp_path / "set.json", clip_length=5, coco_json=tmp_path / "coco.json")
    coco = COCO(str(tmp_path / "coco.json"))
    names = [name for video in content["videos"] for name in video["file_names"]]
    assert [image["file_name"] for image in coco.imgs.values()] == names
    assert len(coco.anns) == 3 * 8
    for image in coco.imgs.values():
        ids = instance_map(int(Path(image["file_name"]).stem))
        annotations = coco.imgToAnns[image["id"]]
        kinds = {(a["category_id"], a["iscrowd"]): coco.annToMask(a) for a in annotations}
        for key, identity in {(1, 0): CAR, (2, 0): PERSON, (2, 1): IGNORE}.items():
            assert np.array_equal(kinds[key], ids == identity)


def test_the_data_sets_open_the_result_without_crowds(mots, tmp_path):
    convert_mots(mots, tmp_path / "set.json", coco_json=tmp_path / "coco.json")
    classes, images = ["person", "dog", "car"], mots / "images"
    dataset = YouTubeVisDataset(tmp_path / "set.json", images, classes)
    assert dataset.category_ids == [2, None, 1]
    assert sorted(track.label for track in dataset.videos[0].tracks) == [0, 2]
    assert all(path.is_file() for path in dataset.videos[0].paths)
    records = CocoDataset(tmp_path / "coco.json", images, classes).images
    assert [len(record.instances) for record in records] == [2] * 8


def test_the_returned_summary_counts_what_was_written(mots, tmp_path):
    line = convert_mots(mots, tmp_path / "set.json", clip_length=4)
    assert line == f"wrote {tmp_path / 'set.json'}: 2 videos, 6 tracks"


def test_command_line_passes_every_option_on(mots, tmp_path, capsys):
    write_text(mots, "0001", text_lines(7, instance_map(7)))
    write_sequence(mots, "0002", [1])
    options = f"--start 0.5 --end 1 --clip-length 2 --from txt --coco {tmp_path / 'coco.json'}"
    options += " --sequence 0001"
    target = tmp_path / "set.json"
    assert cli.main(["convert-dataset", "mots", str(mots), str(target), *options.split()]) == 0
    assert "2 videos, 3 tracks" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 4


# Refusals: one line, and nothing written


@pytest.fixture
def refusal(mots, tmp_path):
    """Convert, which must be refused without output; returns the message."""

    def convert_and_read(**options) -> str:
        folder = tmp_path / "out"
        with pytest.raises(InputError) as error:
            convert_mots(mots, folder / "set.json", coco_json=folder / "coco.json", **options)
        assert not folder.exists()
        return str(error.value)

    return convert_and_read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0.5, "end": 0.5}, "part 0.5 to 0.5: expected 0 <= start < end <= 1"),
        ({"start": -0.1}, "part -0.1 to 1"),
        ({"end": 1.5}, "part 0 to 1.5"),
        ({"start": float("nan")}, "part nan to 1"),
        ({"clip_length": 0}, "clip length 0: must be at least 1 frame"),
        ({"source": "xml"}, "MOTS source 'xml': choose png or txt"),
        ({"start": 0.01, "end": 0.02}, "no sequence has frames between 0.01 and 0.02"),
        ({"source": "txt"}, "sequence 0001: no annotations at "),
        ({"sequences": ["0001", "7"]}, "no sequence '7'; choose from: 0001"),
        ({"sequences": []}, "no sequence is selected; choose from: 0001"),
    ],
)
def test_bad_options_are_refused(refusal, options, message):
    assert message in refusal(**options)


def test_both_files_under_one_name_are_refused(mots, tmp_path):
    same = tmp_path / "out" / "set.json"
    with pytest.raises(InputError, match="both annotation files"):
        convert_mots(mots, same, coco_json=tmp_path / "out" / ".." / "out" / "set.json")
    assert not same.exists()


def test_a_missing_images_folder_is_refused(mots, refusal):
    (mots / "images").rename(mots / "pictures")
    assert refusal().endswith(
        "images: no such folder; it should contain one folder for each sequence"
    )


def test_an_images_folder_without_sequences_is_refused(mots, refusal):
    (mots / "images" / "0001").rename(mots / "elsewhere")
    assert refusal().endswith("images: contains no folders; there should be one for each sequence")


def test_a_sequence_without_frames_is_refused(mots, refusal):
    (mots / "images" / "0002").mkdir()
    assert refusal().endswith("0002: contains no image files")


def test_a_sequence_without_annotations_is_refused(mots, refusal):
    (mots / "instances" / "0001").rename(mots / "elsewhere")
    message = refusal()
    assert message.startswith("sequence 0001: no annotations at ")
    assert str(mots / "instances" / "0001") in message
    assert str(mots / "instances_txt" / "0001.txt") in message


def test_a_frame_name_that_is_no_number_is_refused(mots, refusal):
    write_map(mots / "images" / "0001" / "cover.jpg", np.zeros((4, 4), np.uint8))
    assert "cover.jpg: MOTS frames must be named by their number" in refusal()


def test_two_frames_with_one_number_are_refused(mots, refusal):
    write_map(mots / "images" / "0001" / "1.jpg", np.zeros((HEIGHT, WIDTH), np.uint8))
    assert refusal().endswith("0001: two files have the same frame number")


def test_a_missing_instance_map_is_refused(mots, refusal):
    (mots / "instances" / "0001" / "000004.png").unlink()
    assert refusal().endswith("000004.png: no such file; every frame needs its instance map")


def test_an_unreadable_instance_map_is_refused(mots, refusal):
    (mots / "instances" / "0001" / "000004.png").write_bytes(b"no PNG")
    assert refusal().endswith("000004.png: not readable as PNG")


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)])
def test_an_8_bit_or_colour_instance_map_is_refused(mots, refusal, shape):
    write_map(mots / "instances" / "0001" / "000004.png", np.ones(shape, np.uint8))
    assert refusal().endswith("000004.png: expected an instance map with a single 16-bit channel")


@pytest.mark.parametrize("identity", [7, 999, 3001, 9999, 11000])
def test_an_instance_id_of_an_unknown_class_is_refused(mots, refusal, identity):
    ids = np.full((HEIGHT, WIDTH), identity, np.uint16)
    write_map(mots / "instances" / "0001" / "000004.png", ids)
    expected = f"000004.png: class {identity // 1000} is not in MOTS (1 car, 2 person, 10 ignore)"
    assert refusal().endswith(expected)


def test_an_instance_map_of_another_size_than_the_image_is_refused(mots, refusal):
    write_map(mots / "instances" / "0001" / "000004.png", np.full((12, 16), CAR, np.uint16))
    assert refusal().endswith("000004.jpg: 16x12 pixels, its sequence 32x24")


def test_an_unreadable_image_is_refused(mots, refusal):
    (mots / "images" / "0001" / "000001.jpg").write_bytes(b"no JPEG")
    assert "000001.jpg: not a readable image" in refusal()


MASK = encode_rle(instance_map(1) == CAR)["counts"]

WIDER = encode_rle(np.ones((HEIGHT, 40), bool))["counts"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1001 1 24 32", "expected 'frame id class height width rle'"),
        (f"1 x 1 24 32 {MASK}", "expected 'frame id class height width rle'"),
        (f"1 -1001 1 24 32 {MASK}", "expected 'frame id class height width rle'"),
        (f"1 3001 3 24 32 {MASK}", "class 3 is not in MOTS (1 car, 2 person, 10 ignore)"),
        (f"1 1001 2 24 32 {MASK}", "object 1001 is not of class 2; ids are class * 1000 + number"),
        (f"1 2007 2 24 32 {MASK}", "object 2007 occurs twice in frame 1"),
        ("1 1001 1 24 32 ~~~", "`counts` are not COCO run lengths"),
        (f"1 1001 1 24 32 {WIDER}", "run lengths add up to 960 pixels, not to 32 x 24 = 768"),
    ],
)
def test_a_malformed_text_line_is_refused_with_its_number(mots, refusal, line, message):
    write_text(mots, "0001", [f"1 2007 2 24 32 {MASK}", "", line])
    complaint = refusal(source="txt")
    assert "0001.txt, line 3: " in complaint
    assert message in complaint


def test_a_binary_file_in_place_of_text_is_refused(mots, refusal):
    (mots / "instances_txt").mkdir()
    (mots / "instances_txt" / "0001.txt").write_bytes(b"\xff\xfe\x00")
    assert "0001.txt: not readable as text" in refusal(source="txt")


def test_masks_of_a_frame_without_image_are_refused(mots, refusal):
    lines = [f"{frame} 2007 2 24 32 {MASK}" for frame in range(3)]  # counted from 0, images from 1
    write_text(mots, "0001", lines)
    assert "masks of frame 0, but no such image" in refusal(source="txt")
    assert "masks of frame 0, but no such image" in refusal(source="txt", start=0.5)
