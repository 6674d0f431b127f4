"""Calls that users of other libraries try work, or the error names the right one."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import queryinst_vis
from queryinst_vis import Detections, Detector, FrameResult, InputError, VideoTracker
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.models.build import build_model
from queryinst_vis.video.writer import VideoWriter
from tests.tiny import HEIGHT, WIDTH, distinct_model, draw_frame, tiny_config

FRAMES = 6


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small untrained model with many detections."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    config = tiny_config()
    config.inference.score_threshold = 0.001
    torch.manual_seed(0)
    save_weights(path, build_model(config), config)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "street.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(FRAMES):
            writer.write(draw_frame(index))
    return str(path)


@pytest.fixture
def tracker(weights):
    return VideoTracker.from_pretrained(weights, "cpu")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(draw_frame(0)).save(path)
    return str(path)


def indices(results):
    return [result.index for result in results]


# The fourteen


def test_a_tracker_is_callable(tracker, clip):
    for result in tracker(clip):
        assert isinstance(result, FrameResult)
        assert result.frame.shape == (HEIGHT, WIDTH, 3) and result.frame.dtype == np.uint8
        assert result.seconds == pytest.approx(result.index / 10)
        assert len(result.detections) == len(result.detections.track_ids) > 0
        assert result.class_names == ["box", "crate"]
    assert result.index == FRAMES - 1


def test_track_from_the_package(clip, weights):
    assert indices(queryinst_vis.track(clip, weights, device="cpu")) == list(range(FRAMES))


def test_track_video_from_the_package(clip, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = queryinst_vis.track_video(clip, weights=weights, device="cpu")
    assert summary.frames == FRAMES
    assert "street.mp4" in os.listdir("out/street")


def test_detect_from_the_package(photo, weights):
    found = queryinst_vis.detect(photo, weights, device="cpu")
    assert isinstance(found, Detections) and found.image == photo
    assert len(queryinst_vis.detect([photo, draw_frame(0)], weights, device="cpu")) == 2


def test_update_takes_a_path_and_a_pil_image(tracker, photo):
    expected = tracker.update(draw_frame(0))
    for image in (photo, Image.open(photo)):
        tracker.reset()
        assert torch.equal(tracker.update(image).boxes, expected.boxes)


def test_update_with_a_video_names_the_right_call(tracker, clip):
    with pytest.raises(InputError, match=r"street\.mp4.*track\("):
        tracker.update(clip)


def test_stream_takes_a_start(tracker, clip):
    assert len(list(tracker.stream(clip, start=0.4))) == 2


def test_stream_takes_a_number_of_frames(tracker, clip):
    assert len(list(tracker.stream(clip, max_frames=3))) == 3


def test_from_pretrained_takes_a_score_threshold(weights, clip):
    strict = VideoTracker.from_pretrained(weights, "cpu", score_threshold=1.0)
    assert [len(result.detections) for result in strict.track(clip)] == [0] * FRAMES


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_refused_in_one_line(weights):
    with pytest.raises(InputError, match=r"device 'cuda:0' .*'cpu'"):
        VideoTracker.from_pretrained(weights, device="cuda:0")


def test_detections_convert_to_a_table(tracker, photo):
    pytest.importorskip("pandas")
    found = tracker.update(photo)
    table = found.to_df()
    assert len(table) == len(found) and set(table["class_name"]) <= {"box", "crate"}


def test_detections_are_plotted_on_a_frame(tracker):
    picture = tracker.update(draw_frame(0)).plot(draw_frame(0))
    assert isinstance(picture, Image.Image) and picture.size == (WIDTH, HEIGHT)


def test_tracking_a_file_has_a_length(tracker, clip):
    assert len(tracker.track(clip)) == FRAMES
    assert len(tracker.track(clip, start=0.2, stride=2)) == 2
    results = tracker.track(clip, max_frames=4)
    next(results)
    assert len(results) == 4 and indices(results) == [1, 2, 3]


def test_a_live_source_has_no_length(tracker, clip):
    results = tracker.track(clip, live=True)
    with pytest.raises(TypeError, match="number of frames"):
        len(results)
    assert indices(results)[0] == 0


def test_a_tracker_has_names(tracker):
    assert tracker.names == tracker.class_names == ["box", "crate"]
    assert tracker.names[1] == "crate"


# Options of track


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"start": 0.2, "end": 0.4}, [2, 3]),
        ({"start_frame": 1, "end_frame": 5, "stride": 2}, [1, 3]),
        ({"stride": 2, "max_frames": 2}, [0, 2]),
    ],
    ids=str,
)
def test_a_range_of_frames_can_be_tracked(tracker, clip, choice, expected):
    assert indices(tracker.track(clip, **choice)) == expected


def test_selected_classes_only_are_tracked(tracker, clip):
    every = {int(label) for r in tracker.track(clip) for label in r.detections.labels}
    assert every == {0, 1}
    for classes in (["crate"], [1]):
        results = list(tracker.track(clip, classes=classes))
        assert {int(label) for r in results for label in r.detections.labels} == {1}
        assert min(int(r.detections.track_ids.min()) for r in results) == 0, "ids begin at 0"


def test_a_threshold_applies_only_to_its_call(tracker, clip):
    scores = torch.cat([result.detections.scores for result in tracker.track(clip)])
    before, conf = len(scores), float(scores.median())
    strict = torch.cat([r.detections.scores for r in tracker.track(clip, conf=conf)])
    assert 0 < len(strict) < before and strict.min() >= conf
    apart = list(tracker.track(clip, iou=0))
    assert sum(len(result.detections) for result in apart) < before
    assert sum(len(result.detections) for result in tracker.track(clip)) == before


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"classes": ["boxes"]}, "class 'boxes': .* did you mean 'box'"),
        ({"conf": 2}, "conf must be from 0 to 1"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"start": -1}, "start must be 0 or more"),
        ({"live": True, "stride": 2}, "newest frame"),
        ({"live": True, "batch": 2}, "newest frame"),
    ],
    ids=str,
)
def test_an_invalid_choice_is_refused_when_called(tracker, clip, choice, message):
    with pytest.raises(InputError, match=message):
        tracker.track(clip, **choice)


def test_the_batch_size_does_not_change_the_tracks(clip):
    config = tiny_config()
    tracker = VideoTracker(Detector(distinct_model(config), config))
    alone, together = (list(tracker.track(clip, batch=batch)) for batch in (1, 4))
    assert indices(alone) == indices(together)
    for one, other in zip(alone, together, strict=True):
        assert one.detections.track_ids.tolist() == other.detections.track_ids.tolist()


def test_tracking_two_videos_with_one_tracker_is_refused(weights, clip):
    detector = Detector.from_pretrained(weights, "cpu")
    tracker, other = VideoTracker(detector), VideoTracker(detector)
    for one, two in zip(tracker.track(clip), other.track(clip), strict=True):
        assert one.detections.track_ids.tolist() == two.detections.track_ids.tolist()
    with pytest.raises(InputError, match=r"another video; .*VideoTracker"):
        list(zip(tracker.track(clip), tracker.track(clip), strict=True))


def test_tracking_can_be_stopped(tracker, clip):
    results = tracker.track(clip)
    next(results)
    results.close()
    assert list(results) == []


# Colours


def test_bgr_frames_are_supported(tracker, weights):
    frame, swapped = draw_frame(0), np.ascontiguousarray(draw_frame(0)[..., ::-1])
    expected = tracker.update(frame)
    tracker.reset()
    assert torch.equal(tracker.update(swapped, bgr=True).boxes, expected.boxes)
    found = queryinst_vis.detect(swapped, weights, device="cpu", bgr=True)
    np.testing.assert_array_equal(np.asarray(found[[]].plot()), frame)


# Results


def test_results_can_be_saved_to_files(tracker, clip):
    result = next(tracker.track(clip))
    again = pickle.loads(pickle.dumps(result))
    assert repr(again) == repr(result)


def test_results_convert_to_supervision_with_class_names(tracker, clip):
    for result in tracker.track(clip, max_frames=2):
        exchanged = result.to_supervision()
        assert len(exchanged) == len(result.detections) and exchanged.mask.dtype == bool
        assert set(exchanged["class_name"]) <= {"box", "crate"}
