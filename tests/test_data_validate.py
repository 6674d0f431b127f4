"""``data validate``: every pitfall has a name, a place and a message, and none hides another."""

import copy
import json
import os
import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_support import (
    HEIGHT,
    WIDTH,
    coco_content,
    rectangle,
    uncompressed,
    video_content,
    write_picture,
)
from PIL import ExifTags, Image
from test_eval_errors import GROUND_TRUTH_FAULTS
from test_eval_errors import valid as evaluation_files

from queryinst_vis import cli
from queryinst_vis.data.tools.validate import validate_set
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.annotation_set import parse_video
from queryinst_vis.formats.findings import ERROR, NOTE, SEVERITIES, WARNING, Finding
from queryinst_vis.masks import encode_rle

DOCS = Path(__file__).resolve().parent.parent / "docs" / "data.md"
OF_RESULTS = {"score", "score range", "not compressed", "other files", "too many", "nothing found"}
"""Kinds that only result files have; tests/test_submission.py has a case for each."""


def sound():
    """A video set with nothing wrong: a car in four frames, a dog in two of them."""
    content = video_content()
    content["annotations"][0]["areas"] = [300] * 4
    content["annotations"][1]["areas"] = [None, 400, 400, None]
    return content


def check(content, tmp_path, images=None):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    return validate_set(path, images)


def test_a_sound_video_set_has_no_findings(tmp_path):
    assert check(sound(), tmp_path) == []


def test_polygons_and_both_forms_of_run_lengths_are_fine(tmp_path):
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["area"] = {501: 640, 44: 700, 9: 640}[annotation["id"]]
    content["annotations"][2]["bbox"] = [10, 8, 20, 32]
    kinds = [finding.kind for finding in check(content, tmp_path)]
    assert kinds == ["nothing annotated", "crowd", "repeated masks"]


# Every kind of fault


def car(content):
    return content["annotations"][0]


def dog(content):
    return content["annotations"][1]


def set_mask(content, mask, frame=2):
    car(content)["segmentations"][frame] = mask


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
def test_each_fault_is_found_at_its_place(kind, case, tmp_path):
    spoil, place, message = case
    content = sound()
    spoil(content)
    found = [str(finding) for finding in check(content, tmp_path) if finding.kind == kind]
    assert len(found) == 1
    assert found[0].startswith(f"{place}: " if place else "")
    assert message in found[0]


def test_every_kind_of_finding_has_a_case():
    assert set(FAULTS) | OF_IMAGES | OF_RESULTS == set(SEVERITIES)


def test_the_docs_explain_every_kind_under_its_severity():
    rows = re.findall(r"^\| `([^`]+)` \| (error|warning|note) \| (.+?) \|$", DOCS.read_text(), re.M)
    assert {kind: severity for kind, severity, _ in rows} == SEVERITIES
    assert all(len(meaning.split()) > 3 for _, _, meaning in rows)


def test_all_faults_at_once_are_all_found(tmp_path):
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


def test_nothing_is_said_about_the_box_and_area_of_a_broken_mask(tmp_path):
    content = sound()
    set_mask(content, "mask")
    assert [finding.kind for finding in check(content, tmp_path)] == ["unreadable mask"]


def test_boxes_and_areas_may_differ_as_far_as_drawing_differs(tmp_path):
    content = sound()
    car(content)["bboxes"] = [[5 + 10 * i, 6, 19, 13] for i in range(4)]  # inclusive, rounded
    car(content)["areas"] = [320] * 4
    assert check(content, tmp_path) == []


def test_sets_without_boxes_and_areas_are_fine(tmp_path):
    content = sound()
    for annotation in content["annotations"]:
        del annotation["bboxes"], annotation["areas"]
    assert check(content, tmp_path) == []


def test_faults_of_a_coco_file_name_image_and_annotation(tmp_path):
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


# Images


@pytest.fixture
def pictures(tmp_path):
    for frame in range(4):
        write_picture(tmp_path / "images" / "v12" / f"{frame:05d}.jpg")
    return tmp_path / "images"


def test_images_that_are_all_there_are_fine(pictures, tmp_path):
    assert check(sound(), tmp_path, pictures) == []


def test_a_list_that_is_one_frame_off_is_recognised(pictures, tmp_path):
    content = sound()
    content["videos"][0]["file_names"] = [f"v12/{i:05d}.jpg" for i in range(1, 5)]
    (finding,) = check(content, tmp_path, pictures)
    assert finding.kind == "missing image"
    assert f"1 of 4 frames do not exist, e.g. {pictures}/v12/00004.jpg" in finding.message
    assert "the list has 4 files, 00001.jpg to 00004.jpg, the folder 4, 00000.jpg to 00003.jpg" in (
        finding.message
    )


def test_images_that_are_damaged_or_of_another_size(pictures, tmp_path):
    broken = pictures / "v12" / "00001.jpg"
    broken.write_bytes(broken.read_bytes()[:-100])
    content = sound()
    content["videos"][0]["file_names"] += ["v12/large.png"]
    content["videos"][0]["length"] = 5
    for annotation in content["annotations"]:
        for key in ("segmentations", "bboxes", "areas"):
            annotation[key].append(None)
    cv2.imwrite(str(pictures / "v12" / "large.png"), np.zeros((60, 90, 3), np.uint8))
    damaged, size = check(content, tmp_path, pictures)
    assert (damaged.kind, damaged.place["frame"]) == ("unreadable image", 1)
    assert "is truncated" in damaged.message
    assert (size.kind, size.place["frame"]) == ("image size", 4)
    assert size.message == "v12/large.png has 90x60 pixels, the file says 80x48"


def test_an_orientation_that_the_size_does_not_tell_is_reported(pictures, tmp_path):
    for frame, orientation in ((1, 3), (2, 2)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.new("RGB", (WIDTH, HEIGHT)).save(pictures / f"v12/{frame:05d}.jpg", exif=exif)
    (finding,) = check(sound(), tmp_path, pictures)
    assert (finding.kind, finding.severity) == ("image orientation", WARNING)
    assert "2 of 4 files have an EXIF orientation but the same size upright as stored, e.g. " in (
        finding.message
    )
    assert "v12/00001.jpg (orientation 3)" in finding.message


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (HEIGHT, WIDTH)])
def test_an_orientation_that_the_size_tells_is_fine(pictures, tmp_path, size):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for frame in range(4):
        Image.new("RGB", size).save(pictures / f"v12/{frame:05d}.jpg", exif=exif)
    assert check(sound(), tmp_path, pictures) == []


def test_files_that_use_part_of_their_16_bits_are_noted(pictures, tmp_path):
    content = sound()
    content["videos"][0]["file_names"][1] = "v12/b.png"
    cv2.imwrite(str(pictures / "v12" / "b.png"), np.full((HEIGHT, WIDTH), 1000, np.uint16))
    (finding,) = check(content, tmp_path, pictures)
    assert (finding.kind, finding.severity) == ("image bits", NOTE)
    assert "1 of 4 files use only some of their 16 bits, e.g. v12/b.png (10 bits)" in (
        finding.message
    )


def test_files_outside_of_the_image_folder_are_not_opened(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_text("no image")
    content = sound()
    content["videos"][0].update(length=1, file_names=["../secret.jpg"])
    del content["annotations"][:]
    kinds = [finding.kind for finding in check(content, tmp_path, tmp_path / "images")]
    assert kinds == ["file path", "unused class", "unused class", "nothing annotated"]


def test_an_image_folder_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        check(sound(), tmp_path, tmp_path / "none")


# Agreement with the evaluation


@pytest.mark.parametrize("case", sorted(set(GROUND_TRUTH_FAULTS) - {"no videos", "image data set"}))
def test_what_the_evaluation_refuses_is_found(case, tmp_path):
    content, _ = evaluation_files()
    GROUND_TRUTH_FAULTS[case][0](content)
    severities = {finding.severity for finding in check(content, tmp_path)}
    assert (ERROR if "annotations" not in case and "public" not in case else NOTE) in severities


JUNK = [
    None,
    -1,
    0,
    1,
    2.5,
    1e300,
    "x",
    "",
    [],
    {},
    [1],
    [[]],
    {"size": [1]},
    True,
    10**30,
    10**400,
    "b'1'",
]


def spoil_somewhere(content, chance):
    """Replace or drop a random part of a JSON value."""
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = chance.choice(list(keys))
        below = node[key]
        if isinstance(below, dict | list) and below and chance.random() < 0.85:
            node = below
        elif chance.random() < 0.3:
            del node[key]
            return
        else:
            node[key] = chance.choice(JUNK)
            return


def test_a_file_without_errors_can_be_evaluated_however_it_was_spoilt(tmp_path):
    chance = random.Random(0)
    results = [{"video_id": 12, "category_id": 9, "score": 0.5, "segmentations": [None] * 4}]
    evaluated = refused = 0
    for _ in range(400):
        content = sound()
        content["annotations"][0]["segmentations"][1] = uncompressed(rectangle(15, 5, 35, 20))
        spoil_somewhere(content, chance)
        found = {finding.kind: finding.severity for finding in check(content, tmp_path)}
        if ERROR in found.values():
            refused += 1
        elif (
            found.keys().isdisjoint({"no annotations", "boxes only"})
            and content["videos"]
            and content["categories"]
        ):
            evaluate_youtube_vis(content, results)
            evaluated += 1
    assert min(evaluated, refused) > 20


# The command


def test_the_command_prints_writes_and_exits_2_on_errors(tmp_path, capsys):
    content = sound()
    set_mask(content, "mask")
    car(content)["bboxes"][1] = None
    path, out = tmp_path / "set.json", tmp_path / "findings.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path), "--json", str(out)]) == 2
    printed = capsys.readouterr()
    assert "unreadable mask" in printed.out
    assert printed.err == f"queryinst-vis: error: {path}: 1 error, 1 warning\n"
    written = json.loads(out.read_text())
    assert {key: written[key] for key in (ERROR, WARNING, NOTE)} == {
        ERROR: 1,
        WARNING: 1,
        NOTE: 0,
    }
    first = next(entry for entry in written["findings"] if entry["severity"] == ERROR)
    assert first == {
        "file": str(path),
        "severity": "error",
        "kind": "unreadable mask",
        "video": 12,
        "name": "v12",
        "annotation": 31,
        "frame": 2,
        "message": "is 'mask', neither polygons nor an object with `size` and `counts`",
    }


def test_warnings_alone_leave_the_exit_status_at_0(tmp_path, capsys):
    content = sound()
    car(content)["bboxes"][1] = None
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path)]) == 0
    assert f"{path}: 1 warning" in capsys.readouterr().out


def test_the_table_shows_the_first_places_and_how_many_more(tmp_path, capsys):
    content = sound()
    for annotation in content["annotations"]:
        annotation["bboxes"] = [[1, 2, 3]] * 4
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path)]) == 2
    printed = capsys.readouterr().out
    assert "frame 2" in printed
    assert "frame 3" not in printed
    assert "... and 5 more" in printed


def test_a_file_that_is_no_json_is_one_line(tmp_path, capsys):
    path = tmp_path / "set.json"
    path.write_text("{")
    assert cli.main(["data", "validate", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# Real sets


@pytest.fixture
def real_data():
    if "QUERYINST_VIS_DATA" not in os.environ:
        pytest.skip("QUERYINST_VIS_DATA is not set")
    return Path(os.environ["QUERYINST_VIS_DATA"]) / "data"


def test_a_set_that_was_made_with_care_has_no_findings(real_data):
    folder = real_data / "pennfudan"
    assert validate_set(folder / "instances.json", folder / "images") == []


def test_coco_has_no_errors_and_a_few_areas_that_are_not_its_masks(real_data):
    folder = real_data / "tiny_coco"
    found = validate_set(folder / "annotations" / "instances_val2017.json", folder / "val2017")
    assert [finding for finding in found if finding.severity == ERROR] == []
    areas = [str(finding) for finding in found if finding.kind == "area differs"]
    assert len(areas) == 2
    assert "image 329323 (000000329323.jpg), annotation 900100329323: area 44673" in areas[1]


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"height": 10**9, "width": 10**9}, "`height` is 1000000000: must be a positive integer"),
        ({"height": 65535, "width": 65535}, "65535x65535 pixels: a frame has at most"),
        ({"length": 10**9}, "`length` is 1000000000: must be a positive integer, at most 1000000"),
    ],
)
def test_sizes_that_a_file_only_claims_are_refused_before_anything_is_made(sizes, complaint):
    found: list[Finding] = []
    entry = {"id": 1, "height": 64, "width": 96, "length": 1, **sizes}
    assert parse_video(entry, "video", found.append) is None
    assert complaint in found[-1].message
