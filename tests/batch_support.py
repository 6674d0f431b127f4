"""Runs `batch` in this process with a tiny model; only decoders are separate processes."""

import av
import numpy as np
import supervision as sv
import torch

from queryinst_vis.batch import run as run_module
from queryinst_vis.batch import worker as worker_module
from queryinst_vis.batch.options import RunOptions, VideoOptions
from queryinst_vis.batch.run import execute, plan_run
from queryinst_vis.batch.sources import find_videos
from queryinst_vis.batch.worker import Worker
from queryinst_vis.inference.any_detector import FunctionDetector
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.build import build_model
from queryinst_vis.video import VideoWriter
from tests.tiny import CLASSES, HEIGHT, WIDTH, draw_frame, tiny_config


def use_tiny_model(monkeypatch):
    torch.manual_seed(0)
    config = tiny_config()
    tracker = VideoTracker(Detector(build_model(config), config))
    for module in (worker_module, run_module):
        monkeypatch.setattr(module, "load_tracker", lambda *_: tracker)


def write_clip(path, frames=5, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 10) as writer:
        for index in range(frames):
            writer.write(draw_frame((first + index) % 8))
    return path


class Inline:
    """A driver whose only worker is in this process."""

    def __init__(self, dispatcher):
        self._dispatcher = dispatcher

    def take(self):
        return self._dispatcher.take(0)

    def is_over(self):
        return self._dispatcher.is_over

    def finished(self, outcome):
        self._dispatcher.finished(0, outcome)


def inline_engine(run):
    def engine(dispatcher):
        Worker(run, Inline(dispatcher)).work()
        yield from list(dispatcher.final)

    return engine


def find(sources, options=None, parse=None):
    return find_videos([str(source) for source in sources], options or VideoOptions(), parse)


def track_all(sources, out, *, options=None, order=None, retry_failed=False, **settings):
    """Run once; returns the plan and the summary."""
    run = RunOptions(str(out), device="cpu", **settings)
    videos = find(sources, options)
    if order is not None:
        videos = [videos[index] for index in order]
    plan = plan_run(videos, run, retry_failed=retry_failed)
    return plan, execute(plan, run, inline_engine(run))


def write_long_clip(path, frames=60, key_frame_every=5):
    """A clip at 10 frames/s with rectangles that move to and fro, and regular key frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"g": str(key_frame_every), "bf": "0", "sc_threshold": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width = HEIGHT, WIDTH
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            image = draw_frame(abs(index % 14 - 7))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    return path


def find_rectangles(image):
    """Detect the coloured rectangles of a frame, as a third-party detector."""
    masks = [image[..., colour].astype(int) - image[..., 1 - colour] > 90 for colour in (0, 1)]
    boxes = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] for ys, xs in map(np.nonzero, masks)]
    classes = np.arange(2)
    return sv.Detections(xyxy=np.array(boxes, float), mask=np.array(masks), class_id=classes)


def use_rectangle_finder(monkeypatch, find=find_rectangles):
    def load(*_):
        return VideoTracker(FunctionDetector(find, CLASSES))

    for module in (worker_module, run_module):
        monkeypatch.setattr(module, "load_tracker", load)
