"""Interlaced H.264 whose fields are packets of their own makes one frame of two packets."""

from fractions import Fraction

import av
import numpy as np
import pytest

from queryinst_vis.errors import InputWarning
from queryinst_vis.video import VideoReader
from tests.clips import index_of, write_with_pyav
from tests.moving_clips import copy_stream

SIDE = 64
FRAMES = 12


class Bits:
    """Writes a unit of H.264."""

    def __init__(self):
        self.text = ""

    def fixed(self, size, *values):
        self.text += "".join(format(value, f"0{size}b") for value in values)
        return self

    def golomb(self, *values):
        for code in (format(value + 1, "b") for value in values):
            self.text += "0" * (len(code) - 1) + code
        return self

    def aligned(self, data):
        self.text += "0" * (-len(self.text) % 8)
        return self.fixed(8, *data)

    def unit(self, header):
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        out, zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(out)


def parameters():
    """Sequence and picture parameter sets: main profile, fields allowed, 50 fields a second."""
    sequence = Bits().fixed(8, 77, 0, 30).golomb(0, 0, 0, 0, 1).fixed(1, 0)
    sequence.golomb(SIDE // 16 - 1, SIDE // 32 - 1).fixed(1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1)
    sequence.fixed(32, 1, 50).fixed(1, 1, 0, 0, 0, 1, 1).golomb(0, 0, 0, 0, 0, 1)
    picture = Bits().golomb(0, 0).fixed(1, 0, 0).golomb(0, 0, 0).fixed(3, 0)
    picture.golomb(0, 0, 0).fixed(1, 0, 0, 0)
    return sequence.unit(0x67) + picture.unit(0x68)


def coded(number, field=None):
    """A picture, or one field of it (0: top, 1: bottom), of raw samples (I_PCM)."""
    luma = np.full((SIDE, SIDE), 30 + 8 * number, np.uint8)
    bits = Bits().golomb(0, 7, 0).fixed(4, 0)
    bits.fixed(1, *([0] if field is None else [1, field]))
    is_second = field == 1
    if not is_second:
        bits.golomb(number % 2)
    bits.fixed(4, int(is_second)).fixed(1, *([0] if is_second else [0, 0])).golomb(0)
    rows = luma if field is None else luma[field::2]
    for y in range(0, len(rows), 16):
        for x in range(0, SIDE, 16):
            block = rows[y : y + 16, x : x + 16].tobytes()
            bits.golomb(25).aligned(block + bytes([128]) * 128)
    return bits.unit(0x21 if is_second else 0x65)


def units(number, kind):
    """The packets of a picture: ``(bytes, fields)``."""
    if kind == "frames" or (kind == "mixed" and number % 3 == 0):
        return [(parameters() + coded(number), 2)]
    top, bottom = parameters() + coded(number, 0), coded(number, 1)
    return [(top + bottom, 2)] if kind == "together" else [(top, 1), (bottom, 1)]


def write(path, kind, lost=()):
    """Write a video, without the fields of these numbers."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)  # its packets are ours
        stream.width = stream.height = SIDE
        time = 0
        for number in range(FRAMES):
            for data, fields in units(number, kind):
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 50)
                packet.pts = packet.dts = time
                packet.duration, packet.is_keyframe = fields, data.startswith(parameters())
                if time not in lost:
                    container.mux(packet)
                time += fields
    return path


def brightness(frames):
    """Picture numbers, decoded from their grey values."""
    return [round((frame.image[8:56, 8:56].mean() * 219 / 255 + 16 - 30) / 8) for frame in frames]


def assert_all_there(reader, recwarn):
    frames = list(reader.frames())
    assert brightness(frames) == [frame.number for frame in frames] == list(range(FRAMES))
    assert (len(reader), reader.fps, reader.is_variable) == (FRAMES, 25, False)
    seconds = [frame.seconds - frames[0].seconds for frame in frames]
    np.testing.assert_allclose(seconds, np.arange(FRAMES) / 25, atol=1e-3)
    assert not [warning for warning in recwarn if warning.category is InputWarning]


@pytest.mark.parametrize("kind", ["frames", "fields", "together", "mixed"])
def test_two_fields_are_one_frame_in_a_broadcast(tmp_path, kind, recwarn):
    assert_all_there(VideoReader(write(tmp_path / "clip.ts", kind)), recwarn)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize("kind", ["fields", "mixed"])
def test_two_fields_are_one_frame_in_a_copy(tmp_path, kind, name, recwarn):
    broadcast = write(tmp_path / "clip.ts", kind)
    assert_all_there(VideoReader(copy_stream(broadcast, tmp_path / name)), recwarn)


@pytest.mark.parametrize("lost", [8, 9], ids=["first", "second"])
def test_a_frame_with_a_missing_field_keeps_its_number(tmp_path, lost):
    """Whether or not the decoder outputs a picture for the remaining field."""
    reader = VideoReader(write(tmp_path / "clip.ts", "fields", [lost]))
    frames = list(reader.frames())
    assert len(reader) == len(frames) == FRAMES
    others = [frame for frame in frames if frame.number != lost // 2]
    assert brightness(others) == [frame.number for frame in others]


@pytest.mark.parametrize("more", ["", ":cqm=jvt"])
def test_frames_that_mix_both_kinds_of_blocks_are_frames(tmp_path, more, recwarn):
    """As x264 writes interlaced pictures (MBAFF), with every sequence header field."""
    path = write_with_pyav(tmp_path / "clip.ts", 20, **{"x264-params": f"interlaced=1{more}"})
    assert [index_of(frame) for frame in VideoReader(path)] == list(range(20))
    assert not [warning for warning in recwarn if warning.category is InputWarning]
