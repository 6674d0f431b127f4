"""Per-frame errors: computed by hand, and against the totals of trackeval."""

from __future__ import annotations

import json
from pathlib import Path

from eval_cases import detection, ground_truth, rle

from queryinst_vis.evaluation.frame_errors import FrameErrors, frame_errors
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.formats.video_set import VideoSet

DATA = Path(__file__).parent / "data"
A, B = rle(0, 0, 60, 50), rle(100, 100, 160, 150)


def errors_of(annotations, results, length):
    (tracks,) = VideoSet(ground_truth(annotations, length=length), results)
    return frame_errors(tracks)


def test_each_error_is_attributed_to_its_frame():
    found = errors_of(
        [{"segmentations": [A, A, A, None]}],
        [detection([A, None, None, None], 0.9), detection([None, None, A, B], 0.8)],
        length=4,
    )
    assert found == {
        1: FrameErrors(missed=[1]),
        2: FrameErrors(switched=[1]),
        3: FrameErrors(false=[1]),
    }


def test_a_wrong_class_is_a_false_negative_and_a_false_positive():
    found = errors_of([{"segmentations": [A]}], [detection([A], category_id=2)], length=1)
    assert found == {0: FrameErrors(missed=[1], false=[0])}


def test_detections_inside_a_crowd_are_no_errors():
    crowd = {"segmentations": [A, A], "iscrowd": 1}
    assert errors_of([crowd], [detection([A, B])], length=2) == {1: FrameErrors(false=[0])}


def test_per_frame_errors_add_up_to_the_counts_of_trackeval():
    content = json.loads((DATA / "trackeval_youtube_vis.json").read_text())
    gt, results = content["gt"], content["results"]
    errors = [e for tracks in VideoSet(gt, results) for e in frame_errors(tracks).values()]
    metrics = evaluate_tracking(gt, results)["detection_averaged"]
    assert sum(len(e.missed) for e in errors) == metrics["FN"] > 0
    assert sum(len(e.false) for e in errors) == metrics["FP"] > 0
    assert sum(len(e.switched) for e in errors) == metrics["IDSW"] > 0
