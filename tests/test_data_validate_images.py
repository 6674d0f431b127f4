"""``data validate`` with images: missing, damaged and misfitting files; and real sets."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_support import HEIGHT, WIDTH, write_picture
from PIL import ExifTags, Image
from validate_support import check, sound

from queryinst_vis.data.tools.validate import validate_set
from queryinst_vis.errors import InputError
from queryinst_vis.formats.findings import ERROR, NOTE, WARNING

# Images


@pytest.fixture
def pictures(tmp_path):
    for frame in range(4):
        write_picture(tmp_path / "images" / "v12" / f"{frame:05d}.jpg")
    return tmp_path / "images"


def test_complete_images_have_no_findings(pictures, tmp_path):
    assert check(sound(), tmp_path, pictures) == []


def test_a_frame_list_that_is_off_by_one_is_recognised(pictures, tmp_path):
    content = sound()
    content["videos"][0]["file_names"] = [f"v12/{i:05d}.jpg" for i in range(1, 5)]
    (finding,) = check(content, tmp_path, pictures)
    assert finding.kind == "missing image"
    assert f"1 of 4 frames do not exist, e.g. {pictures}/v12/00004.jpg" in finding.message
    assert "the list has 4 files, 00001.jpg to 00004.jpg, the folder 4, 00000.jpg to 00003.jpg" in (
        finding.message
    )


def test_damaged_images_and_wrong_sizes_are_reported(pictures, tmp_path):
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


def test_an_exif_orientation_that_leaves_the_size_unchanged_is_reported(pictures, tmp_path):
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
def test_an_exif_orientation_implied_by_the_size_is_accepted(pictures, tmp_path, size):
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


def test_files_outside_the_image_folder_are_not_opened(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_text("no image")
    content = sound()
    content["videos"][0].update(length=1, file_names=["../secret.jpg"])
    del content["annotations"][:]
    kinds = [finding.kind for finding in check(content, tmp_path, tmp_path / "images")]
    assert kinds == ["file path", "unused class", "unused class", "nothing annotated"]


def test_a_missing_image_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        check(sound(), tmp_path, tmp_path / "none")


# Real sets


@pytest.fixture
def real_data():
    if "QUERYINST_VIS_DATA" not in os.environ:
        pytest.skip("QUERYINST_VIS_DATA is not set")
    return Path(os.environ["QUERYINST_VIS_DATA"]) / "data"


def test_penn_fudan_has_no_findings(real_data):
    folder = real_data / "pennfudan"
    assert validate_set(folder / "instances.json", folder / "images") == []


def test_coco_has_no_errors_and_two_area_mismatches(real_data):
    folder = real_data / "tiny_coco"
    found = validate_set(folder / "annotations" / "instances_val2017.json", folder / "val2017")
    assert [finding for finding in found if finding.severity == ERROR] == []
    areas = [str(finding) for finding in found if finding.kind == "area differs"]
    assert len(areas) == 2
    assert "image 329323 (000000329323.jpg), annotation 900100329323: area 44673" in areas[1]
