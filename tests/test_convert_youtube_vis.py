"""YouTube-VIS, OVIS and similar files to one strict form."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from convert_support import assert_same_masks, read_tracks, refusal, run_convert
from data_support import HEIGHT, WIDTH, rectangle, uncompressed, video_content
from pycocotools.coco import COCO

from queryinst_vis.data.convert import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    convert_youtube_vis,
    youtube_vis_to_coco,
)
from queryinst_vis.data.convert.youtube_vis import repair
from queryinst_vis.data.tools.validate import validate_set
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.masks import encode_rle

BOX = rectangle(10, 25, 30, 45)


def ovis_content():
    """Two frames of an OVIS-like file: occlusion levels, no lengths, no areas, an empty mask."""
    return {
        "videos": [
            {
                "id": 7,
                "height": HEIGHT,
                "width": WIDTH,
                "file_names": ["0a/img_0000001.jpg", "0a/img_0000002.jpg", "0a/img_0000003.jpg"],
            }
        ],
        "categories": [{"id": 25, "name": "Vehical"}, {"id": 1, "name": "Person"}],
        "annotations": [
            {
                "id": 0,
                "video_id": 7,
                "category_id": 25,
                "occlusion": ["no_occlusion", "severe_occlusion", None],
                "segmentations": [
                    uncompressed(BOX),
                    [[10, 25, 30, 25, 30, 45, 10, 45]],
                    encode_rle(np.zeros_like(BOX)),
                ],
            },
            {
                "id": 0,
                "video_id": 7,
                "category_id": 1,
                "iscrowd": True,
                "segmentations": [None, encode_rle(BOX), []],
            },
            {"id": 3, "video_id": 7, "category_id": 1, "segmentations": [None, None, []]},
        ],
    }


@pytest.fixture
def convert(tmp_path):
    """Write and convert a content; returns the converter's summary and the new content."""

    def write_and_convert(content, **options):
        source, target = tmp_path / "source.json", tmp_path / "out" / "set.json"
        source.write_text(json.dumps(content))
        line = convert_youtube_vis(source, target, **options)
        return line, json.loads(target.read_text())

    return write_and_convert


def test_every_kind_of_mask_becomes_compressed_and_empty_ones_null(convert, tmp_path):
    _, content = convert(ovis_content())
    _, tracks = read_tracks(tmp_path / "out" / "set.json")
    assert_same_masks(tracks["Vehical", 0], [BOX, BOX, None])
    assert_same_masks(tracks["Person", 0], [None, BOX, None])
    for track in content["annotations"]:
        for rle in track["segmentations"]:
            assert rle is None or isinstance(rle["counts"], str)


def test_missing_fields_are_filled_in(convert):
    _, content = convert(ovis_content())
    assert content["videos"][0]["length"] == 3
    car, crowd = content["annotations"]
    assert (car["height"], car["width"], car["length"]) == (HEIGHT, WIDTH, 3)
    assert car["bboxes"] == [[10, 25, 20, 20], [10, 25, 20, 20], None]
    assert car["areas"] == [400, 400, None]
    assert (car["iscrowd"], crowd["iscrowd"]) == (0, 1)


def test_unknown_keys_and_the_ids_of_videos_and_categories_are_kept(convert):
    content = ovis_content() | {"info": {"year": 2021}}
    _, written = convert(content)
    assert written["info"] == {"year": 2021}
    assert written["categories"] == content["categories"]
    assert written["videos"][0]["id"] == 7
    assert written["annotations"][0]["occlusion"] == ["no_occlusion", "severe_occlusion", None]
    assert [track["category_id"] for track in written["annotations"]] == [25, 1]


def test_unique_annotation_ids_are_kept(convert):
    content = ovis_content()
    _, written = convert(content)
    assert [track["id"] for track in written["annotations"]] == [1, 2]
    for track, identity in zip(content["annotations"], (31, 30, 29), strict=True):
        track["id"] = identity
    _, written = convert(content)
    assert [track["id"] for track in written["annotations"]] == [31, 30]


def test_the_returned_summary_counts_the_repairs(convert, tmp_path):
    line, _ = convert(ovis_content())
    assert line == (
        f"wrote {tmp_path / 'out' / 'set.json'}: 1 videos, 2 tracks; lengths filled in: 1; "
        "masks compressed: 2; empty masks made null: 3; tracks without a mask left out: 1; "
        "annotation ids renumbered: 2"
    )


def test_a_strict_file_is_unchanged(convert):
    _, once = convert(ovis_content())
    line, twice = convert(once)
    assert twice == once
    assert line.endswith("1 videos, 2 tracks")


def test_a_file_without_annotations_is_converted_without_annotations(convert):
    content = video_content()
    for none in ({"annotations": None}, {}):
        bare = {key: value for key, value in content.items() if key != "annotations"}
        line, written = convert(bare | none)
        assert written["annotations"] is None
        assert "1 videos, no annotations" in line


def test_the_video_data_set_opens_the_result(convert, tmp_path):
    convert(ovis_content())
    (tmp_path / "0a").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "0a" / f"img_000000{number}.jpg").touch()
    dataset = YouTubeVisDataset(tmp_path / "out" / "set.json", tmp_path, ["Vehical"])
    assert [track.id for track in dataset.videos[0].tracks] == [1]


def test_coco_file_holds_the_same_masks(convert, tmp_path):
    convert(ovis_content(), coco_json=tmp_path / "coco.json")
    coco = COCO(str(tmp_path / "coco.json"))
    assert [(a["image_id"], a["category_id"]) for a in coco.anns.values()] == [
        (1, 25),
        (2, 25),
        (2, 1),
    ]
    assert np.array_equal(coco.annToMask(coco.anns[1]), BOX)


def changed(place, value):
    """A valid content with the value at the path ``place`` changed."""
    content = copy.deepcopy(ovis_content())
    entry = content
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["categories"], [], "set.json: `categories` is empty"),
        (["categories", 0, "id"], 1, "categories[1]: id 1 is used twice"),
        (["videos", 0, "length"], 2, "video 7 (0a): `length` is 2 but there are 3 `file_names`"),
        (["videos", 0, "file_names"], [], "video 7: `file_names` must list one path per frame"),
        (["videos", 0, "height"], 0, "video 7 (0a): `height` is 0: must be a positive integer"),
        (["annotations", 1, "video_id"], 8, "annotation 2: video_id 8 is not in the file"),
        (["annotations", 1, "category_id"], 2, "annotation 2: category_id 2 is not in the file"),
        (["annotations", 1], "x", "annotations[1]: must be an object, is a str"),
        (
            ["annotations", 0, "segmentations"],
            None,
            "annotation 1: has neither `segmentations` nor `bboxes`",
        ),
        (
            ["annotations", 0, "segmentations"],
            [None],
            "annotation 1: `segmentations` must have 3 entries, one per frame, has 1",
        ),
        (
            ["annotations", 0, "occlusion"],
            ["x"],
            "annotation 1: `occlusion` must have 3 entries, one per frame, has 1",
        ),
        (
            ["annotations", 0, "segmentations", 1],
            [[1, 2, 3]],
            "annotation 1, frame 1: a polygon must be x, y",
        ),
        (
            ["annotations", 0, "segmentations", 1],
            encode_rle(np.ones((4, 6))),
            "annotation 1, frame 1: the mask is 6x4 pixels, its frame 80x48",
        ),
    ],
)
def test_broken_files_are_refused_with_the_place(place, value, message):
    assert message in refusal(repair, changed(place, value), "set.json")


@pytest.mark.parametrize("value", ["0", "no", 2, None, [], 0, False, 1, True, 1.0])
def test_the_crowd_flag_is_interpreted_as_by_data_validate(tmp_path, value):
    """A string is no flag: ``"0"`` is refused, not read as true or false."""
    content = changed(["annotations", 0, "iscrowd"], value)
    (tmp_path / "set.json").write_text(json.dumps(content))
    kinds = [finding.kind for finding in validate_set(tmp_path / "set.json")]
    if isinstance(value, int | float) and value in (0, 1):
        assert "crowd flag" not in kinds
        assert repair(content, "set.json")[0]["annotations"][0]["iscrowd"] == value
    else:
        assert "crowd flag" in kinds
        assert "`iscrowd` must be 0 or 1" in refusal(repair, content, "set.json")


def test_videos_with_the_same_id_are_refused():
    content = ovis_content()
    content["videos"] *= 2
    assert "videos[1]: id 7 is used twice" in refusal(repair, content, "set.json")


def test_nothing_is_written_if_the_coco_file_cannot_be(tmp_path):
    source, target = tmp_path / "source.json", tmp_path / "set.json"
    source.write_text(json.dumps(video_content() | {"annotations": None}))
    options = {"coco_json": tmp_path / "coco.json"}
    assert "no annotations" in refusal(convert_youtube_vis, source, target, **options)
    same = refusal(convert_youtube_vis, source, target, coco_json=target)
    assert "given for both annotation files" in same
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.json"]


def test_the_command_line_converts_with_its_options(tmp_path, capsys):
    source, target, coco = (tmp_path / name for name in ("source.json", "set.json", "coco.json"))
    source.write_text(json.dumps(ovis_content()))
    assert run_convert("youtube-vis", source, target, "--coco", coco) == 0
    assert "2 tracks" in capsys.readouterr().out
    assert len(json.loads(coco.read_text())["images"]) == 3


def test_a_track_has_one_mask_per_frame():
    video = LabelledVideo(["v/1.jpg", "v/2.jpg"], HEIGHT, WIDTH, [LabelledTrack("car", [None])])
    with pytest.raises(ValueError, match=r"1 masks .*2 frames"):
        build_video_set([video], "a set")


def test_image_ids_are_numbered_consecutively_over_the_videos():
    track = LabelledTrack("car", [None, encode_rle(rectangle(5, 8, 15, 20))])
    videos = [
        LabelledVideo([f"{name}/1.jpg", f"{name}/2.jpg"], HEIGHT, WIDTH, [track]) for name in "vw"
    ]
    coco = youtube_vis_to_coco(build_video_set(videos, "a set"))
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [
        (1, "v/1.jpg"),
        (2, "v/2.jpg"),
        (3, "w/1.jpg"),
        (4, "w/2.jpg"),
    ]
    assert [(a["image_id"], a["track_id"]) for a in coco["annotations"]] == [(2, 1), (4, 2)]
