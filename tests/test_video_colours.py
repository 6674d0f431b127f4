"""Colours, orientations and pixel formats: frames look as in a video player."""

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.video import VideoReader
from tests.clips import HEIGHT, WIDTH, write_video

# Matrices of H.273 by their numbers: (name, kr, kb)
MATRICES = {
    1: ("bt709", 0.2126, 0.0722),
    5: ("bt470bg", 0.299, 0.114),
    6: ("smpte170m", 0.299, 0.114),
    7: ("smpte240m", 0.212, 0.087),
    9: ("bt2020nc", 0.2627, 0.0593),
}
COLOURS = [(235, 20, 20), (20, 200, 40), (30, 60, 220), (128, 128, 128), (250, 240, 20), (0, 0, 0)]


def to_yuv(rgb, kr, kb, is_full, bits=8):
    """Code values of a colour (H.273, 8.3): the definition, not FFmpeg's arithmetic."""
    red, green, blue = np.asarray(rgb) / 255
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    unit = 1 << bits - 8
    if is_full:
        top = (1 << bits) - 1
        return [round(top * luma), *(round(top * c + 128 * unit) for c in chroma)]
    return [round((219 * luma + 16) * unit), *(round((224 * c + 128) * unit) for c in chroma)]


def write_planes(path, colours, pix_fmt="yuv444p", codec="ffv1", **tags):
    """A video of one frame for each ``(y, u, v)``, stored without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for planes in colours:
            frame = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
            for name, value in tags.items():
                setattr(frame, name, value)
            wide = frame.format.components[0].bits > 8
            for plane, value in zip(frame.planes, planes, strict=True):
                count = plane.buffer_size // (2 if wide else 1)
                plane.update(np.full(count, value, np.uint16 if wide else np.uint8).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def middles(path):
    return [frame[HEIGHT // 2, WIDTH // 2].astype(int) for frame in VideoReader(path)]


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_of_every_matrix_and_range_are_exact(tmp_path, matrix, is_full):
    _, kr, kb = MATRICES[matrix]
    planes = [to_yuv(colour, kr, kb, is_full) for colour in COLOURS]
    path = write_planes(
        tmp_path / "clip.mkv", planes, colorspace=matrix, color_range=2 if is_full else 1
    )
    np.testing.assert_allclose(middles(path), COLOURS, atol=3)


def test_colours_without_a_matrix_default_to_bt601_as_in_ffmpeg(tmp_path):
    planes = [to_yuv(colour, 0.299, 0.114, is_full=False) for colour in COLOURS]
    np.testing.assert_allclose(
        middles(write_planes(tmp_path / "clip.mkv", planes)), COLOURS, atol=3
    )


# HDR


def pq(nits):
    """The code value, 0..1, of light in cd/m2 (SMPTE ST 2084)."""
    power = (np.asarray(nits) / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(nits):
    """The code value of grey light on a screen of 1,000 cd/m2 (BT.2100)."""
    scene = (np.asarray(nits) / 1000) ** (1 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def write_grey(path, codes, transfer, primaries=9):
    planes = [(round(64 + 876 * float(code)), 512, 512) for code in codes]
    tags = {"colorspace": 9, "color_range": 1, "color_trc": transfer, "color_primaries": primaries}
    return write_planes(path, planes, "yuv444p10le", **tags)


@pytest.mark.parametrize(("transfer", "curve"), [(16, pq), (18, hlg)])
def test_hdr_looks_like_its_sdr_grade(tmp_path, transfer, curve):
    """HDR light of a grade for a 203 cd/m2, gamma 2.4 display gives the values of that grade."""
    grade = np.array([0, 32, 64, 96, 129, 161, 193])
    path = write_grey(tmp_path / "hdr.mkv", curve(203 * (grade / 255) ** 2.4), transfer)
    found = np.array(middles(path))
    np.testing.assert_allclose(found, np.repeat(grade[:, None], 3, axis=1), atol=2)


@pytest.mark.parametrize(("transfer", "curve", "peak"), [(16, pq, 10_000), (18, hlg, 1000)])
def test_highlights_of_hdr_are_compressed_not_clipped(tmp_path, transfer, curve, peak):
    nits = [150, 203, 300, 500, 800, peak]
    found = np.array(middles(write_grey(tmp_path / "hdr.mkv", curve(nits), transfer)))[:, 0]
    assert (np.diff(found[:-1]) > 0).all()
    assert 215 < found[1] < 240 and found[-1] >= 254


def test_primaries_of_bt2020_are_converted_to_bt709(tmp_path):
    """BT.709's red in BT.2020's primaries (BT.2087), gamma 2.4."""
    light = np.array([0.6274, 0.0691, 0.0164])
    code = 255 * light ** (1 / 2.4)
    planes = [to_yuv(code, 0.2627, 0.0593, is_full=False, bits=10)]
    tags = {"colorspace": 9, "color_range": 1, "color_trc": 14, "color_primaries": 9}
    path = write_planes(tmp_path / "wide.mkv", planes, "yuv444p10le", **tags)
    np.testing.assert_allclose(middles(path), [(255, 0, 0)], atol=20)


# Orientation

QUADRANTS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 220),
    "white": (240,) * 3,
}


@pytest.fixture(scope="module")
def quadrants(tmp_path_factory):
    """Red and green above, blue and white below."""
    path = tmp_path_factory.mktemp("colours") / "quadrants.mp4"
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rows, columns = slice(None, HEIGHT // 2), slice(None, WIDTH // 2)
    frame[:, :] = QUADRANTS["white"]
    frame[rows] = QUADRANTS["green"]
    frame[rows, columns] = QUADRANTS["red"]
    frame[HEIGHT // 2 :, columns] = QUADRANTS["blue"]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def with_display_matrix(source, target, matrix):
    """Copy an mp4 with another matrix in its track header (ISO 14496-12, 8.3.2)."""
    data = bytearray(source.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(entry * 65536) for entry in matrix)
    values = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    target.write_bytes(data)
    return target


# (a, b, c, d), and the corners that players show: above from left to right, then below
ORIENTATIONS = [
    ((1, 0, 0, 1), "red green blue white"),
    ((0, 1, -1, 0), "blue red white green"),  # a quarter turn clockwise
    ((-1, 0, 0, -1), "white blue green red"),
    ((0, -1, 1, 0), "green white red blue"),
    ((-1, 0, 0, 1), "green red white blue"),  # mirrored, as front cameras do
    ((1, 0, 0, -1), "blue white red green"),
    ((0, 1, 1, 0), "red blue green white"),
    ((0, -1, -1, 0), "white green blue red"),
    ((0, 0, 0, 0), "red green blue white"),  # none
    ((0.996, 0.087, -0.087, 0.996), "red green blue white"),  # five degrees
]


@pytest.mark.parametrize(("matrix", "corners"), ORIENTATIONS)
def test_frames_are_rotated_and_mirrored_by_the_display_matrix(
    quadrants, tmp_path, matrix, corners
):
    reader = VideoReader(with_display_matrix(quadrants, tmp_path / "turned.mp4", matrix))
    is_sideways = abs(matrix[0]) < abs(matrix[1])
    size = (WIDTH, HEIGHT) if is_sideways else (HEIGHT, WIDTH)
    assert (reader.height, reader.width) == size
    frame = next(iter(reader))
    assert frame.shape == (*size, 3) and frame.flags.c_contiguous
    found = [frame[y, x].astype(int) for y in (8, -8) for x in (8, -8)]
    np.testing.assert_allclose(found, [QUADRANTS[name] for name in corners.split()], atol=25)


# Pixel formats


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "name"),
    [
        ("gray", "ffv1", "clip.mkv"),
        ("gray10le", "ffv1", "clip.mkv"),
        ("gray16le", "ffv1", "clip.mkv"),
        ("ya8", "png", "clip.mov"),
        ("monow", "rawvideo", "clip.nut"),
        ("pal8", "rawvideo", "clip.avi"),
        ("rgb24", "rawvideo", "clip.avi"),
        ("rgb555le", "rawvideo", "clip.nut"),
        ("rgb48be", "png", "clip.mov"),
        ("rgba", "png", "clip.mov"),
        ("gbrp", "rawvideo", "clip.nut"),
        ("gbrp16le", "ffv1", "clip.mkv"),
        ("bayer_rggb8", "rawvideo", "clip.nut"),
        ("yuva420p", "ffv1", "clip.mkv"),
        ("yuv410p", "ffv1", "clip.mkv"),
        ("yuv422p12le", "ffv1", "clip.mkv"),
        ("yuv444p16le", "ffv1", "clip.mkv"),
        ("yuyv422", "rawvideo", "clip.nut"),
        ("nv12", "rawvideo", "clip.nut"),
        ("p010le", "rawvideo", "clip.nut"),
        ("xyz12le", "rawvideo", "clip.nut"),
        ("grayf32le", "rawvideo", "clip.nut"),
        ("gbrpf32le", "rawvideo", "clip.nut"),
    ],
)
def test_raw_and_rare_pixel_formats_are_read_or_refused_in_one_line(tmp_path, pix_fmt, codec, name):
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for _ in range(3):
            frame = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    try:
        frames = list(VideoReader(path))
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 3


def test_a_matrix_that_cannot_be_converted_is_refused_in_one_line(tmp_path):
    tags = {"colorspace": 15, "color_range": 1}  # IPT-C2, as in Dolby Vision of profile 5
    path = write_planes(tmp_path / "clip.mkv", [(300, 512, 512)], "yuv444p10le", **tags)
    with pytest.raises(InputError, match=r"clip\.mkv: .*\(yuv444p10le, matrix 15\)"):
        VideoReader(path)


def test_a_plain_file_of_raw_pictures_is_refused(tmp_path):
    path = tmp_path / "clip.yuv"
    path.write_bytes(bytes(WIDTH * HEIGHT * 3))
    with pytest.raises(InputError, match="video"):
        VideoReader(path)


def test_the_frame_size_may_change_within_a_video(tmp_path):
    one, other = write_video(tmp_path / "a.mp4", 3), write_video(tmp_path / "b.mp4", 3, 10, 96, 128)
    path = tmp_path / "both.ts"
    with path.open("wb") as file:
        for source in (one, other):
            target = source.with_suffix(".ts")
            with av.open(str(source)) as read, av.open(str(target), "w") as written:
                stream = written.add_stream_from_template(read.streams.video[0])
                for packet in read.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        written.mux(packet)
            file.write(target.read_bytes())
    frames = list(VideoReader(path))
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 3)] * 6
