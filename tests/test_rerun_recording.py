"""``track --save rrd``: a recording that Rerun reads, written without its analytics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rerun", reason="the extra 'rerun' is not installed")

from queryinst_vis import track_video
from queryinst_vis.report import rerun_recording


def test_the_recording_is_read_by_rerun(video, out, loaded, tmp_path):
    track_video(video, out, save=["rrd"])
    assert {path.name for path in out.iterdir()} == {"clip.rrd", "run.json"}
    command = [sys.executable, "-m", "rerun", "rrd", "print", "-vvv", str(out / "clip.rrd")]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    text = shown.stdout + shown.stderr
    for entity in ("/video", "/video/boxes", "/video/masks"):
        assert entity in text
    for component in ("EncodedImage", "Boxes2D", "SegmentationImage", "AnnotationContext"):
        assert component in text
    assert "#0 box" in text and "#1 crate" in text


def test_rerun_analytics_are_not_started(tmp_path):
    """They would store an id in the home folder before anything is sent."""
    program = (
        "import os\n"
        "from queryinst_vis.report.rerun_recording import import_rerun\n"
        "stream = import_rerun().RecordingStream('test')\n"
        f"stream.save({str(tmp_path / 'a.rrd')!r})\n"
        "stream.disconnect()\n"
        "assert 'FORCE_RERUN_ANALYTICS' not in os.environ\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    environment |= {"XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
    environment["FORCE_RERUN_ANALYTICS"] = "1"  # whatever the environment says
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert not [path for path in home.rglob("*") if "analytics" in path.name]
    assert (tmp_path / "a.rrd").stat().st_size > 0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(rerun_recording.InputError, match=r"pip install 'queryinst-vis\[rerun\]'"):
        rerun_recording.import_rerun()
