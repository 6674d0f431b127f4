"""Reading image files."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from data_support import HEIGHT, WIDTH, write_picture
from PIL import ExifTags, Image, ImageOps

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.utils.images import encode_jpeg, inspect_image, read_image, read_orientation
from queryinst_vis.utils.jpeg import JPEG_END, is_truncated


def test_channels_are_in_rgb_order(tmp_path):
    pixels = np.zeros((5, 7, 3), np.uint8)
    pixels[:] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


def test_grey_and_transparent_images_are_converted_to_rgb(tmp_path):
    Image.new("L", (7, 5), 90).save(tmp_path / "grey.png")
    Image.new("RGBA", (7, 5), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "grey.png") == 90).all()
    assert read_image(tmp_path / "clear.png").shape == (5, 7, 3)


def gradient(height=24, width=40):
    """A smooth picture without rotational or mirror symmetry."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 9, columns * 6, rows * 2 + columns * 3], 2).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_as_pillow_does(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(gradient()).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.abs(read_image(path).astype(int) - expected).max() <= 4
    size = expected.shape[:2]
    assert read_orientation(path).upright == inspect_image(path)[0].upright == size
    np.testing.assert_array_equal(read_image(path, size), read_image(path))


def test_the_annotated_size_decides_whether_exif_orientation_applies(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", (24, 40)), gradient())
    turned = read_image(tmp_path / "a.png", (40, 24))
    np.testing.assert_array_equal(turned, np.rot90(gradient(), -1))
    with pytest.raises(InputError, match=r"24x40 pixels .*EXIF orientation 6"):
        read_image(tmp_path / "a.png", (24, 41))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_invalid_exif_orientation_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient())


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_bits_in_use_of_a_16_bit_file_are_scaled_to_8(tmp_path, bits, suffix):
    path = tmp_path / f"a.{suffix}"
    grey = gradient()[..., 2].astype(np.uint16)
    grey[0, 0] = 255
    assert cv2.imwrite(str(path), grey << (bits - 8))
    np.testing.assert_array_equal(read_image(path), np.stack([grey] * 3, 2))
    assert inspect_image(path)[1] == bits


@pytest.mark.parametrize("frames", [3, 200])
def test_a_dark_frame_of_a_video_of_12_bits_stays_dark(tmp_path, frames):
    """Although its own values fit 10 or 8 bits; a few bright frames determine the range."""
    grey = gradient()[..., 2].astype(np.uint16)
    for number in range(frames):
        level = 4 if number % 2 else 0
        cv2.imwrite(str(tmp_path / f"{number:03}.png"), grey << level)
    dark, bright = (read_image(tmp_path / f"{number:03}.png") for number in (0, 1))
    np.testing.assert_array_equal(bright[..., 0], grey)
    np.testing.assert_array_equal(dark[..., 0], grey >> 4)


def test_bits_in_use_are_determined_over_the_frames_given(tmp_path, monkeypatch):
    grey = gradient()[..., 2].astype(np.uint16)
    grey[0, 0] = 255
    cv2.imwrite(str(tmp_path / "a.png"), grey << 2)
    (tmp_path / "b.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "c.png"), grey.astype(np.uint8))
    cv2.imwrite(str(tmp_path / "d.tif"), grey << 8)  # of another kind
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], grey)
    (tmp_path / "sub").mkdir()
    cv2.imwrite(str(tmp_path / "sub" / "a.png"), grey << 2)

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", refuse)  # as in a folder without read permission
    np.testing.assert_array_equal(read_image(tmp_path / "sub" / "a.png")[..., 0], grey)


JPEG_KINDS = [
    {"quality": 90},
    {"subsampling": 0},
    {"progressive": True},
    {"quality": 98, "restart_marker_rows": 1},
]


def jpeg(mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(gradient()).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", JPEG_KINDS)
def test_a_jpeg_that_lacks_only_its_last_marker_is_read(tmp_path, mode, options):
    whole, path = jpeg(mode, **options), tmp_path / "a.jpg"
    path.write_bytes(whole)
    expected = read_image(path)
    for missing in (1, 2):
        path.write_bytes(whole[:-missing])
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", JPEG_KINDS)
def test_a_jpeg_that_lacks_pixels_is_refused(mode, options):
    whole = jpeg(mode, **options)
    start = whole.index(b"\xff\xda") + 12
    ends = [*range(start, len(whole) - 12, 7), *range(len(whole) - 12, len(whole) - 2)]
    accepted = [end for end in ends if not is_truncated(whole[:end])]
    for end in accepted:  # the last bits may be padding
        cut, full = (
            cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            for data in (whole[:end] + JPEG_END, whole)
        )
        np.testing.assert_array_equal(cut, full)
    assert len(accepted) < 3


VIDEO_PART = b"\x00\x00\x00\x18ftypmp42" + b"\xff\xda\x00\x0c\xff\xd8" * 9


def test_bytes_after_the_end_of_a_jpeg_are_ignored(tmp_path):
    path = tmp_path / "motion.jpg"
    path.write_bytes(jpeg())
    expected = read_image(path)
    path.write_bytes(jpeg() + VIDEO_PART)
    np.testing.assert_array_equal(read_image(path), expected)
    path.write_bytes(jpeg()[:-60] + VIDEO_PART)
    with pytest.raises(InputError, match="is truncated"):
        read_image(path)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path):
    exif = b"Exif\x00\x00" + bytes(8) + jpeg(quality=20)
    whole = jpeg()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = tmp_path / "a.jpg"
    path.write_bytes(whole[:2] + segment + whole[2:])
    assert read_image(path).shape == (24, 40, 3)
    path.write_bytes(whole[:2] + segment + whole[2:-60])
    with pytest.raises(InputError, match="is truncated"):
        read_image(path)


def test_missing_broken_and_truncated_files_are_refused_by_name(tmp_path):
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
    with pytest.raises(InputError, match=r"a\.jpg: .*truncated"):
        read_image(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_an_image_with_several_frames_is_read_with_a_warning(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (7, 5), (40 * number, 0, 0)) for number in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.warns(InputWarning, match=rf"a\.{suffix}: only the first of its 3 frames is read"):
        read_orientation(path)


def test_a_damaged_further_page_does_not_matter(tmp_path):
    path = tmp_path / "a.tif"
    pages = [Image.fromarray(gradient())] * 4
    pages[0].save(path, save_all=True, append_images=pages[1:])
    data = path.read_bytes()
    for cut in range(len(data) // 3, len(data), 97):
        path.write_bytes(data[:cut])
        try:
            size = read_orientation(path).upright
        except InputError as error:  # the first page is damaged, too
            size = (24, 40)
            assert "not a readable image" in str(error)
        assert size == (24, 40)


def test_further_pictures_of_a_photo_are_no_frames(tmp_path, recwarn):
    picture = Image.fromarray(gradient())
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture])
    assert read_orientation(tmp_path / "a.jpg").upright == (24, 40)
    assert not recwarn.list


def test_an_image_beyond_the_limits_of_jpeg_is_refused():
    with pytest.raises(InputError, match="70000x1 pixels cannot be encoded as JPEG"):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8), 90)


def test_an_image_with_too_many_pixels_is_refused_by_their_number(tmp_path, monkeypatch):
    write_picture(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=rf"a\.jpg: has too many pixels .*{WIDTH * HEIGHT}"):
        read_orientation(tmp_path / "a.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on allocated memory")
def test_lack_of_memory_is_not_blamed_on_the_file(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((10_000, 10_000), np.uint8))
    code = """
import resource, sys
from queryinst_vis.utils.images import read_image
resource.setrlimit(resource.RLIMIT_DATA, (256 << 20, 256 << 20))  # bytes; the pixels have 286 MiB
read_image(sys.argv[1])
"""
    words = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "MemoryError: image " in done.stderr and "a.png" in done.stderr


def test_whole_jpegs_with_trailing_bytes_are_read(tmp_path):
    write_picture(tmp_path / "a.jpg")
    before = read_image(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(bytes(100))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), before)
    assert before.shape == cv2.imread(str(tmp_path / "a.jpg")).shape == (HEIGHT, WIDTH, 3)
