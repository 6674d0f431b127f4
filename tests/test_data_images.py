"""Reading image files."""

import cv2
import numpy as np
import pytest
from data_support import HEIGHT, WIDTH, write_picture
from PIL import Image

from queryinst_vis.errors import InputError
from queryinst_vis.utils.images import read_image


def test_channels_come_as_red_green_blue(tmp_path):
    pixels = np.zeros((5, 7, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    Image.new("L", (7, 5), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (7, 5), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "grey.png") == 90).all()
    assert read_image(tmp_path / "clear.png").shape == (5, 7, 3)


def test_exif_orientation_is_ignored_because_annotations_count_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to look at it
    Image.new("RGB", (7, 5)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (5, 7, 3)


def test_missing_broken_and_cut_off_files_are_refused_by_name(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(InputError, match=r"a\.jpg: no such file"):
        read_image(path)
    for junk in (b"", b"no image"):
        path.write_bytes(junk)
        with pytest.raises(InputError, match=r"a\.jpg: not a readable image"):
            read_image(path)
    write_picture(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match=r"a\.jpg: the JPEG file is cut short"):
        read_image(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


def test_whole_jpegs_with_trailing_bytes_are_read(tmp_path):
    write_picture(tmp_path / "a.jpg")
    before = read_image(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(bytes(100))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), before)
    assert before.shape == cv2.imread(str(tmp_path / "a.jpg")).shape == (HEIGHT, WIDTH, 3)
