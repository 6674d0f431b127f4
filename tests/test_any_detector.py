"""Tracking and result files for user-defined detector functions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import supervision as sv
from pycocotools import mask as coco_mask

import queryinst_vis
from queryinst_vis import FunctionDetector, InputError, VideoTracker
from queryinst_vis.config import Config
from queryinst_vis.inference.any_detector import load_detector
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.track import DEFAULT_MAX_TRACKS, load_tracker, track_video
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.video.writer import VideoWriter
from tests.tiny import CLASSES, COLOURS, draw_frame, rectangles, write_images, write_videos


def find(frame, masks=True):
    """The red and the green rectangle of ``draw_frame``, in ascending order of score."""
    pixels = np.stack([(abs(frame.astype(int) - colour) < 60).all(axis=2) for colour in COLOURS])
    return sv.Detections(
        xyxy=sv.mask_to_xyxy(pixels).astype(float) + np.array([0, 0, 1, 1]),
        mask=pixels if masks else None,
        confidence=np.array([0.6, 0.9]),
        class_id=np.array([0, 1]),
        data={"class_name": np.array(CLASSES)},
    )


def find_boxes(frame):
    return find(frame, masks=False)


def without_names(frame):
    found = find(frame)
    found.data = {}
    return found


def returns(**changes):
    """A detector function that returns one instance, with the given fields changed."""
    found = {"xyxy": np.array([[4.0, 4, 20, 20]]), "confidence": np.array([0.9]), **changes}
    return lambda frame: sv.Detections(**found)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(4):
            writer.write(draw_frame(index))
    return path


def test_a_detector_function_can_be_tracked_frame_by_frame():
    tracker = VideoTracker(find)
    for index in range(4):
        detections = tracker.update(draw_frame(index))
        order = np.argsort(detections.track_ids.numpy())
        assert detections.boxes[order].tolist() == [list(box) for box in rectangles(index)[::-1]]
        assert detections.labels[order].tolist() == [1, 0]  # the stronger one comes first
        x0, y0, x1, y1 = rectangles(index)[1]
        mask = detections.masks()[order[0]]
        assert mask.sum() == (x1 - x0) * (y1 - y0) and mask[y0:y1, x0:x1].all()
    assert tracker.class_names == ["crate", "box"][::-1]


def test_a_detector_function_can_stream_a_video(clip):
    tracker = VideoTracker(find)
    ids = [detections.track_ids.tolist() for _, detections in tracker.stream(clip, batch=3)]
    assert ids == [[0, 1]] * 4


def test_tracking_a_file_writes_all_files(clip, tmp_path):
    summary = track_video(clip, tmp_path / "out", find)
    assert (summary.frames, summary.tracks) == (4, 2)
    assert all(path.stat().st_size > 0 for path in summary.files)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert sorted(entry["score"] for entry in results) == pytest.approx([0.6, 0.9])
    assert sorted(entry["category_id"] for entry in results) == [1, 2]


def test_tracking_keeps_the_settings_of_a_detector(clip):
    faint = returns(confidence=np.array([0.2]), class_id=np.array([1]))
    detector = FunctionDetector(faint, CLASSES, overrides=["tracking.cut_threshold=8"])
    assert [len(result.detections) for result in queryinst_vis.track(clip, detector)] == [1] * 4
    config = load_tracker(TrackOptions(detector)).detector.config
    assert (config.inference.score_threshold, config.tracking.cut_threshold) == (0, 8)
    assert config.tracking.max_tracks == DEFAULT_MAX_TRACKS
    named = TrackOptions(detector, overrides=["tracking.max_tracks=null"], conf=0.5)
    config = load_tracker(named).detector.config
    assert (config.inference.score_threshold, config.tracking.max_tracks) == (0.5, None)


def test_results_of_detectors_without_masks_use_box_masks(clip, tmp_path):
    track_video(clip, tmp_path / "out", find_boxes)
    [first, _] = json.loads((tmp_path / "out" / "results.json").read_text())
    areas = [int(coco_mask.area(rle)) for rle in first["segmentations"]]
    assert areas == pytest.approx([24 * 24] * 4, rel=0.1)
    assert not VideoTracker(find_boxes).update(draw_frame(0)).has_masks


def test_boxes_beside_the_frame_have_no_pixels(clip, tmp_path):
    beside = returns(xyxy=np.array([[-50.0, -50, -10, -10]]))
    track_video(clip, tmp_path / "out", beside)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


def test_a_detector_function_is_evaluated_on_a_video_set(tmp_path):
    """Exact detections score an AP of 1; classes are matched by name."""
    config = Config()
    config.data.test = write_videos(tmp_path / "videos")
    detector = FunctionDetector(find, ["dog", *CLASSES])
    scores = evaluation.test_video(config, detector, tmp_path / "results.json", devices=1)
    assert scores["AP"] == 1
    assert len(json.loads((tmp_path / "results.json").read_text())) == 4
    config.inference.score_threshold = 0.8  # the crates are left
    assert (
        evaluation.test_video(config, detector, tmp_path / "results.json", devices=1)["AP"] == 0.5
    )


def test_a_detector_function_is_evaluated_on_an_image_set(tmp_path):
    config = Config()
    config.data.test = write_images(tmp_path / "images")
    detector = FunctionDetector(find, CLASSES)
    scores = evaluation.test_image(config, detector, tmp_path / "results.json", devices=1)
    assert (scores["segm"]["AP"], scores["bbox"]["AP"]) == (1, 1)
    with pytest.raises(InputError, match="FunctionDetector"):
        evaluation.test_image(config, find, tmp_path / "results.json", devices=1)


def test_a_call_tracks_only_the_requested_classes(clip):
    for detector in (find, FunctionDetector(find, CLASSES)):
        results = list(queryinst_vis.track(clip, detector, classes=["crate"]))
        for result in results:
            assert result.to_supervision().data["class_name"].tolist() == ["crate"]
        assert len(results) == 4


def test_class_names_given_by_the_user_define_the_labels():
    tracker = VideoTracker(FunctionDetector(without_names, ["crate", "box"]))
    assert tracker.class_names == ["crate", "box"]
    assert sorted(tracker.update(draw_frame(0)).labels.tolist()) == [0, 1]
    tracker = VideoTracker(FunctionDetector(returns(class_id=np.array([3])), {1: "a", 3: "b"}))
    assert (tracker.update(draw_frame(0)).labels.tolist(), tracker.class_names) == ([1], ["a", "b"])
    tracker = VideoTracker(FunctionDetector(find, ["crate", "box"]))  # names come before ids
    assert tracker.update(draw_frame(0)).labels.tolist() == [0, 1]


def test_missing_scores_default_to_1_and_missing_names_to_object():
    tracker = VideoTracker(returns(confidence=None))
    found = tracker.update(draw_frame(0))
    assert found.scores.tolist() == [1] and not found.has_masks
    assert tracker.class_names == ["object"]
    nothing = VideoTracker(lambda frame: sv.Detections.empty())
    assert len(nothing.update(draw_frame(0))) == 0


def test_score_and_nms_overrides_apply_to_a_detector_function():
    strong = VideoTracker(FunctionDetector(find, overrides=["inference.score_threshold=0.8"]))
    assert strong.update(draw_frame(0)).scores.tolist() == pytest.approx([0.9])
    two = returns(xyxy=np.array([[4.0, 4, 20, 20]] * 2), confidence=np.array([0.7, 0.9]))
    for overrides, count in (([], 2), (["inference.nms_threshold=0.5"], 1)):
        assert (
            len(VideoTracker(FunctionDetector(two, None, overrides)).update(draw_frame(0))) == count
        )
    masks = ["inference.nms_threshold=0.5", "inference.nms_overlap=masks"]
    assert len(VideoTracker(FunctionDetector(find, None, masks)).update(draw_frame(0))) == 2


def test_overriding_a_loaded_function_does_not_modify_it():
    original = FunctionDetector(find)
    changed = load_detector(original, overrides=["inference.score_threshold=0.8"])
    assert changed.config.inference.score_threshold == 0.8
    assert original.config.inference.score_threshold == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda frame: [1, 2], "must return supervision.Detections, returned list"),
        (returns(class_id=np.array([3])), "class ids without names; pass Func"),
        (returns(mask=np.ones((1, 5, 7), dtype=bool)), r"masks of \(7, 5\) pixels in a frame of"),
        (returns(confidence=np.array([np.nan])), "scores must be between 0 and 1"),
    ],
)
def test_unusable_detector_output_is_refused(function, message):
    with pytest.raises(InputError, match=message):
        VideoTracker(function).update(draw_frame(0))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (returns(class_id=np.array([2])), "class id 2, but class_names has ids 0 to 1"),
        (returns(data={"class_name": np.array(["dog"])}), r"class 'dog', .*names are box, crate"),
    ],
)
def test_labels_without_a_class_name_are_refused(function, message):
    with pytest.raises(InputError, match=message):
        VideoTracker(FunctionDetector(function, CLASSES)).update(draw_frame(0))


def test_settings_of_the_network_are_refused_for_a_detector_function():
    for override in ("input.test_short=100", "inference.precision=bf16-mixed", "model.channels=8"):
        with pytest.raises(InputError, match=r"override of .*: tracking"):
            FunctionDetector(find, overrides=[override])
    with pytest.raises(InputError, match="max_size: "):
        load_detector(find, max_size=100)
    with pytest.raises(InputError, match="device 'cpu': "):
        load_detector(find, device="cpu")
    with pytest.raises(InputError, match=r"track head.* tracking\.rule=masktrack"):
        VideoTracker(FunctionDetector(find, overrides=["tracking.rule=masktrack"]))
    with pytest.raises(InputError, match=r"Detector.*, got str"):
        VideoTracker("people")
