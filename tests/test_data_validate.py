"""``data validate``: every kind of finding has a name, a place and a message."""

import copy
import re
from pathlib import Path

import pytest
from data_support import HEIGHT, WIDTH, coco_content, rectangle
from validate_support import OF_RESULTS, car, check, set_mask, sound

from queryinst_vis.formats.annotation_set import parse_video
from queryinst_vis.formats.findings import SEVERITIES, Finding
from queryinst_vis.masks import encode_rle

DOCS = Path(__file__).resolve().parent.parent / "docs" / "data.md"


def test_a_sound_video_set_has_no_findings(tmp_path):
    assert check(sound(), tmp_path) == []


def test_polygons_and_both_rle_forms_are_accepted(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["area"] = {501: 640, 44: 700, 9: 640}[annotation["id"]]
    content["annotations"][2]["bbox"] = [10, 8, 20, 32]
    kinds = [finding.kind for finding in check(content, tmp_path)]
    assert kinds == ["nothing annotated", "crowd", "repeated masks"]


# Kinds of findings


def dog(content):
    return content["annotations"][1]


def replace(items, index, value):
    items[index] = value


def add_video(content, **changes):
    video = {**copy.deepcopy(content["videos"][0]), "id": 13, **changes}
    content["videos"].append(video)


CAR_2 = "video 12 (v12), annotation 31, frame 2"

FAULTS = {
    # kind: (what is done to a sound file, place, message)
    "missing list": (lambda c: c.pop("categories"), "", "`categories` must be a list, is missing"),
    "broken entry": (lambda c: c["videos"].append(7), "entry videos[1]", "an object, is a int"),
    "duplicate id": (lambda c: car(c).update(id=30), "entry annotations[1]", "id 30 is used twice"),
    "unknown id": (lambda c: car(c).update(video_id=3), "annotation 31", "video_id 3 is not in"),
    "class name": (
        lambda c: c["categories"].append({"id": 6, "name": "dog"}),
        "category 6",
        "'dog' is used twice",
    ),
    "id 0": (lambda c: car(c).update(id=0), "annotation 0", "never matches id 0"),
    "no annotations": (lambda c: c.pop("annotations"), "", "but not for training or evaluation"),
    "unused class": (
        lambda c: c["categories"].append({"id": 6, "name": "cat"}),
        "category 6 (cat)",
        "no annotation",
    ),
    "nothing annotated": (
        lambda c: add_video(c, file_names=[f"w/{i}.jpg" for i in range(4)]),
        "video 13 (w)",
        "has no annotation",
    ),
    "frame size": (
        lambda c: c["videos"][0].update(width=0),
        "video 12 (v12)",
        "`width` is 0: must be a positive integer, at most 65535",
    ),
    "frame list": (
        lambda c: c["videos"][0]["file_names"].pop(),
        "video 12 (v12)",
        "`length` is 4 but there are 3 `file_names`",
    ),
    "repeated frame": (
        lambda c: replace(c["videos"][0]["file_names"], 2, "v12/00001.jpg"),
        "video 12 (v12), frame 2",
        "v12/00001.jpg is also frame 1",
    ),
    "no file names": (lambda c: c["videos"][0].pop("file_names"), "video 12", "no `file_names`"),
    "frame order": (
        lambda c: c["videos"][0]["file_names"].reverse(),
        "video 12 (v12), frame 1",
        "v12/00002.jpg comes after v12/00003.jpg",
    ),
    "shared frame": (
        add_video,
        "video 13 (v12)",
        "4 of its 4 files, e.g. v12/00000.jpg, also belong to video 12",
    ),
    "file path": (
        lambda c: replace(c["videos"][0]["file_names"], 0, "v12/../../00000.jpg"),
        "video 12 (v12/../..)",
        "v12/../../00000.jpg is not a plain path below the image folder",
    ),
    "uneven frames": (
        lambda c: replace(c["videos"][0]["file_names"], 3, "v12/00004.jpg"),
        "video 12 (v12), frame 3",
        "the step of frame numbers changes from 1 to 2",
    ),
    "list length": (
        lambda c: car(c)["segmentations"].pop(),
        "video 12 (v12), annotation 31",
        "`segmentations` must have 4 entries, one per frame, has 3; is it one frame off?",
    ),
    "crowd flag": (
        lambda c: car(c).update(iscrowd="no"),
        "video 12 (v12), annotation 31",
        "`iscrowd` must be 0 or 1, is 'no'",
    ),
    "counts as bytes": (
        lambda c: set_mask(c, {"size": [HEIGHT, WIDTH], "counts": "b'PPPo0'"}),
        CAR_2,
        "use .decode('ascii') before writing",
    ),
    "unreadable mask": (
        lambda c: set_mask(c, {"size": [HEIGHT, WIDTH], "counts": "PPPo"}),
        CAR_2,
        "not COCO run lengths",
    ),
    "mask size": (
        lambda c: set_mask(c, encode_rle(rectangle(25, 5, 45, 20).T)),
        CAR_2,
        "is 48x80 pixels, its frame 80x48; [height, width] is swapped",
    ),
    "run lengths": (
        lambda c: set_mask(c, {"size": [HEIGHT, WIDTH], "counts": [100, 20, 3000]}),
        CAR_2,
        "run lengths add up to 3120 pixels, not to 80 x 48 = 3840",
    ),
    "polygon": (lambda c: set_mask(c, [[1, 2, 3, 4]]), CAR_2, "three or more finite points"),
    "empty entry": (lambda c: set_mask(c, []), CAR_2, "is []; where the object is absent"),
    "polygon outside": (
        lambda c: set_mask(c, [[25, 5, 85, 5, 85, 20, 25, 20]]),
        CAR_2,
        "extends from 25, 5 to 85, 20, but its frame is 80x48",
    ),
    "empty mask": (
        lambda c: set_mask(c, {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}),
        CAR_2,
        "the mask has no pixels; use null",
    ),
    "never visible": (
        lambda c: dog(c).update(segmentations=[None] * 4, bboxes=[None] * 4),
        "video 12 (v12), annotation 30",
        "has no mask in any frame",
    ),
    "boxes only": (
        lambda c: dog(c).update(segmentations=[None] * 4),
        "video 12 (v12), annotation 30",
        "has a box and no mask in 2 of 4 frames: it trains classes and boxes, not masks",
    ),
    "masks missing": (
        lambda c: dog(c).update(segmentations=[None] * 4),
        "",
        "1 of 2 annotations have a box but no mask: the file can be used for training, but not to",
    ),
    "repeated masks": (
        lambda c: c["annotations"].append({**copy.deepcopy(dog(c)), "id": 77}),
        "video 12 (v12), annotation 77",
        "2 of its 2 masks are identical to those of annotation 30",
    ),
    "annotation size": (
        lambda c: car(c).update(width=WIDTH + 1),
        "video 12 (v12), annotation 31",
        "`width` is 81, but that of its video is 80",
    ),
    "crowd": (
        lambda c: dog(c).update(iscrowd=1),
        "video 12 (v12), annotation 30",
        "not used as an instance",
    ),
    "broken box": (lambda c: replace(car(c)["bboxes"], 2, [1, 2, 3]), CAR_2, "[1, 2, 3] is not [x"),
    "broken area": (
        lambda c: replace(car(c)["areas"], 2, "big"),
        CAR_2,
        "area 'big' is not a number",
    ),
    "empty box": (lambda c: replace(car(c)["bboxes"], 2, [25, 5, 0, 15]), CAR_2, "has no area"),
    "box differs": (
        lambda c: replace(car(c)["bboxes"], 2, [25, 5, 45, 20]),
        CAR_2,
        "box [25, 5, 45, 20], but its mask has [25.0, 5.0, 20.0, 15.0]",
    ),
    "box without mask": (
        lambda c: replace(dog(c)["bboxes"], 0, [1, 1, 5, 5]),
        "video 12 (v12), annotation 30, frame 0",
        "box [1, 1, 5, 5], but no mask",
    ),
    "mask without box": (lambda c: replace(car(c)["bboxes"], 2, None), CAR_2, "the box is null"),
    "area differs": (
        lambda c: replace(car(c)["areas"], 2, 400),
        CAR_2,
        "area 400, but its mask has 300",
    ),
    "area without mask": (
        lambda c: replace(dog(c)["areas"], 0, 5),
        "video 12 (v12), annotation 30, frame 0",
        "area 5, but no mask",
    ),
    "mask without area": (lambda c: replace(car(c)["areas"], 2, None), CAR_2, "the area is null"),
}

OF_IMAGES = {
    "missing image",
    "unreadable image",
    "image size",
    "image orientation",
    "image bits",
    "nothing shown",
    "no box or area",
}
"""Kinds that have cases of their own below."""


@pytest.mark.parametrize(("kind", "case"), FAULTS.items(), ids=FAULTS)
def test_each_fault_is_reported_with_its_place(kind, case, tmp_path):
    spoil, place, message = case
    content = sound()
    spoil(content)
    found = [str(finding) for finding in check(content, tmp_path) if finding.kind == kind]
    assert len(found) == 1
    assert found[0].startswith(f"{place}: " if place else "")
    assert message in found[0]


def test_every_kind_of_finding_has_a_case():
    assert set(FAULTS) | OF_IMAGES | OF_RESULTS == set(SEVERITIES)


def test_the_docs_list_every_finding_with_its_severity():
    rows = re.findall(r"^\| `([^`]+)` \| (error|warning|note) \| (.+?) \|$", DOCS.read_text(), re.M)
    assert {kind: severity for kind, severity, _ in rows} == SEVERITIES
    assert all(len(meaning.split()) > 3 for _, _, meaning in rows)


def test_faults_do_not_hide_one_another(tmp_path):
    content = sound()
    car(content)["bboxes"][0] = None
    car(content)["areas"][1] = 4
    car(content)["segmentations"][3] = "mask"
    dog(content)["iscrowd"] = 2
    dog(content)["category_id"] = 5
    content["categories"].append({"id": 8, "name": "cat"})
    kinds = {finding.kind for finding in check(content, tmp_path)}
    expected = {"mask without box", "area differs", "unreadable mask", "crowd flag"}
    assert kinds == expected | {"unused class"}


def test_box_and_area_of_a_broken_mask_are_not_checked(tmp_path):
    content = sound()
    set_mask(content, "mask")
    assert [finding.kind for finding in check(content, tmp_path)] == ["unreadable mask"]


def test_rounding_differences_of_boxes_and_areas_are_accepted(tmp_path):
    content = sound()
    car(content)["bboxes"] = [[5 + 10 * i, 6, 19, 13] for i in range(4)]  # inclusive, rounded
    car(content)["areas"] = [320] * 4
    assert check(content, tmp_path) == []


def test_sets_without_boxes_and_areas_are_accepted(tmp_path):
    content = sound()
    for annotation in content["annotations"]:
        del annotation["bboxes"], annotation["areas"]
    assert check(content, tmp_path) == []


def test_faults_of_a_coco_file_are_reported_with_image_and_annotation(tmp_path):
    content = coco_content()
    content["annotations"][0]["bbox"] = [10, 8, 60, 32]
    content["annotations"][1]["segmentation"]["counts"][0] += 1
    content["images"][1]["height"] = None
    del content["annotations"][2]["bbox"]
    content["annotations"].append(
        {"id": 77, "image_id": 70, "category_id": 3, "bbox": [1, 1, 0, 5], "segmentation": []}
    )
    found = "\n".join(str(finding) for finding in check(content, tmp_path))
    assert "image 70 (a.jpg), annotation 501: box [10, 8, 60, 32], but its mask has" in found
    assert "image 70 (a.jpg), annotation 44: run lengths add up to 3841" in found
    assert "image 70 (a.jpg), annotation 9: has no `bbox`, which COCO's AP needs" in found
    assert "annotation 77: has no segmentation and no bbox with an area; add one, or" in found
    assert "image 7 (b.jpg): `height` is None: must be a positive integer, at most" in found


# Real sets


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"height": 10**9, "width": 10**9}, "`height` is 1000000000: must be a positive integer"),
        ({"height": 65535, "width": 65535}, "65535x65535 pixels: a frame has at most"),
        ({"length": 10**9}, "`length` is 1000000000: must be a positive integer, at most 1000000"),
    ],
)
def test_oversized_frames_are_refused_before_allocation(sizes, complaint):
    found: list[Finding] = []
    entry = {"id": 1, "height": 64, "width": 96, "length": 1, **sizes}
    assert parse_video(entry, "video", found.append) is None
    assert complaint in found[-1].message
