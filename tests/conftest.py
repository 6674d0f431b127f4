"""Shared fixtures; one thread for every test and the processes that it starts.

Sums depend on the number of threads in their last bits, and exact resume is tested across
processes; the tensors of the tests are too small to gain from more.
"""

import json
import os
import signal
import threading
from types import SimpleNamespace

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere

import pytest
import torch
from hypothesis import settings

# Output is that of a program without a terminal, and servers of tests are reached directly.
for name in ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)
os.environ |= {"COLUMNS": "80", "LINES": "24"}
os.environ |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}

# A shell ignores Ctrl-C for commands in the background, and nohup ignores SIGHUP; programs that
# the tests start would inherit this.
if threading.current_thread() is threading.main_thread():
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)

# Deadlines are wall-clock time, which depends on the load of the machine.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")

# The core: arithmetic, metrics, identities, file formats, and one video from end to end.
QUICK = {
    "test_association",
    "test_config",
    "test_config_inheritance",
    "test_detections",
    "test_eval_youtube_vis",
    "test_formats_agreement",
    "test_fused",
    "test_golden_masktrack",
    "test_golden_queryinst",
    "test_inference",
    "test_layers",
    "test_losses",
    "test_masks",
    "test_motion_rules",
    "test_results",
    "test_run_lengths",
    "test_shipped_configs",
    "test_track_video",
    "test_tracking",
    "test_tracking_expiry",
    "test_tracking_metrics",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in QUICK and "slow" not in item.keywords:
            item.add_marker("quick")


@pytest.fixture(scope="session", autouse=True)
def _auto_is_the_cpu():
    """``device="auto"`` is the CPU, also on a machine with a GPU and in child processes.

    Tests compare exact numbers of models on the CPU; tests of CUDA name the device.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Random inputs do not depend on the tests before."""
    torch.manual_seed(0)


@pytest.fixture
def images(tmp_path):
    """Annotation file and image folder of ``data_support.coco_content``."""
    from data_support import coco_content, write_set

    return write_set(tmp_path / "coco", coco_content())


@pytest.fixture
def videos(tmp_path):
    """Annotation file and image folder of ``data_support.video_content``."""
    from data_support import video_content, write_set

    return write_set(tmp_path / "videos", video_content())


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory):
    """``DatasetConfig`` of the images that ``tiny.write_images`` draws."""
    from tests.tiny import write_images

    return write_images(tmp_path_factory.mktemp("tiny_images") / "set")


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory):
    """``DatasetConfig`` of the videos that ``tiny.write_videos`` draws."""
    from tests.tiny import write_videos

    return write_videos(tmp_path_factory.mktemp("tiny_videos") / "set")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, tiny_videos):
    """Folder of an uninterrupted run of ``training_support.six_step_config``, not evaluated."""
    from queryinst_vis.training.train import train
    from tests.training_support import six_step_config

    work_dir = tmp_path_factory.mktemp("runs") / "straight"
    train(six_step_config(tiny_videos), work_dir, devices=1)
    return work_dir


@pytest.fixture
def write_config(tmp_path):
    """Write a config file below the test's folder and return its path."""

    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def converted(tmp_path):
    """Write video set and results, convert the results, and return the path of the outcome."""
    from queryinst_vis.formats.convert_results import convert_results

    def write_and_convert(gt, source, target, **options):
        (tmp_path / "gt.json").write_text(json.dumps(gt))
        path = source
        if isinstance(source, list):
            path = tmp_path / "source.json"
            path.write_text(json.dumps(source))
        convert_results(path, tmp_path / target, tmp_path / "gt.json", **options)
        return tmp_path / target

    return write_and_convert


@pytest.fixture
def mots_folder(tmp_path):
    """Write a folder of MOTS text files, given their lines by sequence."""

    def write(**sequences):
        folder = tmp_path / "mots_source"
        folder.mkdir()
        for name, lines in sequences.items():
            (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        return folder

    return write


@pytest.fixture
def cli_error(capsys):
    """Run a command that must fail with exit status 2 and one line on stderr; return the line."""
    from queryinst_vis import cli

    def run_and_read(*words):
        status = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        assert (status, captured.out) == (2, "")
        assert captured.err.startswith("queryinst-vis: error: ")
        assert captured.err.count("\n") == 1
        return captured.err.removeprefix("queryinst-vis: error: ").rstrip("\n")

    return run_and_read


@pytest.fixture
def video(tmp_path):
    """A video of ``tiny.draw_frame``, as ``tracking_support.KnowingTracker`` expects it."""
    from queryinst_vis.video import VideoWriter
    from tests.tiny import draw_frame
    from tests.tracking_support import FRAMES

    path = tmp_path / "in" / "clip.mp4"
    with VideoWriter(path, 10, crf=5) as writer:
        for index in range(FRAMES):
            writer.write(draw_frame(index))
    return path


@pytest.fixture
def out(tmp_path):
    """An output folder that does not exist yet."""
    return tmp_path / "out"


@pytest.fixture
def loaded(monkeypatch):
    """Load KnowingTrackers in place of networks; returns the list of the calls' arguments."""
    from queryinst_vis.config import Config, apply_overrides
    from queryinst_vis.inference import track
    from queryinst_vis.inference.detector import Detector
    from tests.tracking_support import KnowingTracker

    calls = []

    def from_pretrained(name, device, overrides, max_size):
        calls.append((name, device, overrides, max_size))
        return SimpleNamespace(config=apply_overrides(Config(), overrides))

    monkeypatch.setattr(Detector, "from_pretrained", from_pretrained)
    monkeypatch.setattr(track, "VideoTracker", KnowingTracker)
    return calls


@pytest.fixture
def tracked(video, out, loaded):
    """Write the named outputs of the clip; returns their folder."""
    from queryinst_vis.inference.track import track_video

    def write(*save, **options):
        track_video(video, out, save=save, **options)
        return out

    return write


@pytest.fixture
def server(monkeypatch):
    """A running ``download_support.Server``."""
    from tests.download_support import Server

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def clip(request, tmp_path_factory):
    """The video of ``moving_clips.CLIPS`` whose name is the fixture's parameter."""
    from tests.moving_clips import CLIPS, available, copy_stream, write_moving

    suffix, options = CLIPS[request.param]
    if not available(options.get("codec", "libx264")):
        pytest.skip(f"this PyAV has no encoder {options['codec']}")
    path = tmp_path_factory.mktemp("seek") / f"clip.{suffix}"
    write_moving(path, **options)
    if "fragmented" in request.param:
        fragments = path.with_name("fragments.mp4")
        path = copy_stream(path, fragments, movflags="frag_keyframe+empty_moov")
    return path


@pytest.fixture
def figures(monkeypatch):
    """The saved matplotlib figures, for checks without reading pixels."""
    from matplotlib.figure import Figure

    saved, save = [], Figure.savefig

    def listen(figure, *arguments, **options):
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", listen)
    return saved
