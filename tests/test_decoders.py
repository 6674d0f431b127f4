"""Optional decoders: the same frames as PyAV, or a refusal."""

import sys

import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.video import decoders
from queryinst_vis.video.frames import Selection
from queryinst_vis.video.source import open_source
from tests.clips import HEIGHT, WIDTH, frame_of, write_video, write_with_pyav
from tests.moving_clips import write_moving


def decoder_or_skip(name, path):
    """Open a video with a decoder, or skip the test if it is not installed."""
    try:
        return open_source(path, decoder=name)
    except InputError as error:
        if "needs the package" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", ["decord", "torchcodec"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_every_decoder_gives_the_frames_of_pyav(tmp_path, name, suffix):
    options = {"g": "7", "bf": "2"} if suffix != "webm" else {"codec": "libvpx", "g": "7"}
    path = write_moving(tmp_path / f"clip.{suffix}", **options)
    decoder_or_skip(name, path)
    for selection in (Selection(), Selection(start=2.0, stride=3), Selection(start_frame=59)):
        expected = list(open_source(path, selection).frames())
        found = list(open_source(path, selection, decoder=name).frames())
        assert [f[:2] for f in found] == [f[:2] for f in expected]
        for one, other in zip(found, expected, strict=True):
            assert np.abs(one.image.astype(int) - other.image).max() <= 2


def test_a_decoder_refuses_videos_it_decodes_wrongly(tmp_path, monkeypatch, capsys):
    path = write_video(tmp_path / "clip.mp4")
    decoder_or_skip("decord", path)
    broadcast = write_with_pyav(tmp_path / "clip.ts", format="mpegts", g="5")
    with pytest.raises(InputError, match=r"decord .*mpegts"):
        open_source(broadcast, decoder="decord")
    monkeypatch.setattr(decoders.DecordFile, "__len__", lambda _: 19)
    with pytest.raises(InputError, match=r"decord .*19 .*20 frames.*--decoder pyav"):
        open_source(path, decoder="decord")
    monkeypatch.undo()
    monkeypatch.setattr(
        decoders.DecordFile, "read", lambda *_: np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    )
    assert cli.main(["track", str(path), "--decoder", "decord"]) == 2
    assert "decord returns different frames" in capsys.readouterr().err


def test_a_missing_decoder_names_its_install_command(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4")
    for module, name in (("decord", "decord"), ("torchcodec.decoders", "torchcodec")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=rf"pip install 'queryinst-vis\[{name}\]'"):
            open_source(path, decoder=name)
    with pytest.raises(InputError, match="pyav, decord, torchcodec"):
        open_source(path, decoder="opencv")
    with pytest.raises(InputError, match="reads only video files"):
        open_source([frame_of(0)], decoder="decord")
