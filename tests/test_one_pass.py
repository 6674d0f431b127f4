"""AP and tracking metrics from one pass equal those of the two separate evaluations."""

import json
from pathlib import Path

import numpy as np
import pytest
from eval_cases import box_mask, detection, ground_truth

from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import (
    evaluate_tracking,
    evaluate_youtube_vis,
    one_pass,
    overlaps,
    similarity,
)
from queryinst_vis.evaluation.confidence import evaluate_with_confidence
from queryinst_vis.evaluation.one_pass import evaluate_with_tracking
from queryinst_vis.evaluation.tracking_confidence import evaluate_tracking_with_confidence
from queryinst_vis.masks import encode_rle

DATA = Path(__file__).parent / "data"


def golden(name):
    folder = DATA / "ytvis_eval"
    return tuple(
        json.loads((folder / f"{name}_{part}.json").read_text()) for part in ("gt", "results")
    )


def frozen(name):
    content = json.loads((DATA / f"trackeval_{name}.json").read_text())
    return content["gt"], content["results"]


SETS = {
    "golden": lambda: golden("medium"),
    "with regions to ignore": lambda: frozen("mots"),
    "with overlapping masks": lambda: frozen("youtube_vis"),
}


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("name", SETS)
def test_one_pass_equals_two_separate_evaluations(name, threshold):
    gt, results = SETS[name]()
    if name != "golden":  # whose scores differ already; in the other sets all are 1
        for number, entry in enumerate(results):
            entry["score"] = number % 7 / 7
    found = evaluate_with_tracking(gt, results, threshold)
    assert found.pop("tracking") == evaluate_tracking(gt, results, threshold=threshold)
    assert found == evaluate_youtube_vis(gt, results)


def test_intervals_equal_those_of_two_separate_evaluations():
    gt, results = golden("small")
    found = evaluate_with_tracking(gt, results, 0.3, samples=20, seed=4)
    tracking = evaluate_tracking_with_confidence(gt, results, 20, 4, threshold=0.3)
    assert found.pop("tracking") == tracking
    assert found == evaluate_with_confidence(gt, results, 20, 4)


def test_tracking_uses_all_detections_and_ap_the_best_hundred():
    masks = [encode_rle(box_mask(0, 0, 9 + k, 9)) for k in range(2)]
    scores = np.random.default_rng(0).permutation(130) / 130
    gt = ground_truth([{"segmentations": masks}])
    results = [detection(masks, score=float(score)) for score in scores]
    found = evaluate_with_tracking(gt, results)
    assert found["tracking"]["class_averaged"]["FP"] == 129 * 2
    del found["tracking"]
    assert found == evaluate_youtube_vis(gt, results)


def test_masks_are_compared_once(monkeypatch):
    compared = []

    def counted(detections, ground_truth, compare=overlaps.frame_overlaps):
        for overlap in compare(detections, ground_truth):
            compared.append(overlap.intersections.size)
            yield overlap

    for module in (overlaps, one_pass, similarity):
        monkeypatch.setattr(module, "frame_overlaps", counted)
    gt, results = golden("small")
    evaluate_tracking(gt, results)
    pairs = sum(compared)
    compared.clear()
    evaluate_with_tracking(gt, results)
    assert sum(compared) == pairs > 0


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_rejected(threshold):
    with pytest.raises(InputError, match="must be a finite number"):
        evaluate_with_tracking(*golden("small"), threshold)


def test_eval_video_prints_and_writes_both(tmp_path, capsys):
    gt, results = (str(DATA / "ytvis_eval" / f"small_{part}.json") for part in ("gt", "results"))
    out = tmp_path / "out.json"
    options = ["--tracking", "--threshold", "0.3", "--confidence", "5", "--json", str(out)]
    assert main(["eval-video", gt, results, *options]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("AP75", "HOTA, %", "IDF1", "5 resamples"))
    expected = evaluate_with_tracking(Path(gt), Path(results), 0.3, samples=5)
    assert json.loads(out.read_text()) == json.loads(json.dumps(expected))


def test_threshold_requires_tracking(capsys):
    assert main(["eval-video", "gt.json", "results.json", "--threshold", "0.3"]) == 2
    assert "add --tracking" in capsys.readouterr().err
