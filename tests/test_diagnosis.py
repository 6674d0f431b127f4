"""Error analysis: single causes are isolated, and the shares add up to 1."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from eval_cases import detection, ground_truth, rle
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.attributes import occlusion, pooled_precision, speed
from queryinst_vis.evaluation.average_precision import Matches, mean_defined
from queryinst_vis.evaluation.breakdown import lost_per_video
from queryinst_vis.evaluation.diagnosis import diagnose

GOLDEN = Path(__file__).parent / "data" / "ytvis_eval"
LENGTH = 8
A, B = rle(0, 0, 60, 50), rle(100, 100, 160, 150)
FAR = rle(200, 300, 260, 350)
NEAR_A, HALF_A = rle(0, 0, 60, 49), rle(0, 0, 60, 36)  # IoU .98 and .72
NOTHING = [None] * LENGTH


def whole(mask):
    return [mask] * LENGTH


def two_objects(classes=(1, 1)):
    return ground_truth(
        [
            {"segmentations": whole(mask), "category_id": category}
            for mask, category in zip((A, B), classes, strict=True)
        ],
        length=LENGTH,
    )


def gains(report, tolerance=1e-12):
    return {name for name, gain in report["waterfall"].items() if abs(gain) > tolerance}


ONE_CAUSE = {
    "merged identities": (
        ground_truth(
            [
                {"segmentations": [A] * 4 + [None] * 4},
                {"segmentations": [None] * 4 + [B] * 4},
            ],
            length=LENGTH,
        ),
        [detection([A] * 4 + [B] * 4)],
    ),
    "split identities": (
        two_objects(),
        [
            detection([A] * 4 + [None] * 4, 0.9),
            detection([None] * 4 + [A] * 4, 0.8),
            detection(whole(B), 0.7),
        ],
    ),
    "class": (
        two_objects((1, 2)),
        [detection(whole(A), 0.9), detection(whole(B), 0.8, category_id=1)],
    ),
    "duplicates": (
        two_objects(),
        [
            detection(whole(A), 0.9),
            detection(whole(NEAR_A), 0.8),
            detection(whole(B), 0.7),
        ],
    ),
    "background": (
        two_objects(),
        [
            detection(whole(FAR), 0.9),
            detection(whole(A), 0.8),
            detection(whole(B), 0.7),
        ],
    ),
    "masks": (two_objects(), [detection(whole(HALF_A), 0.8), detection(whole(B), 0.9)]),
    "temporal extent": (
        two_objects(),
        [detection([A] * 5 + [None] * 3, 0.8), detection(whole(B), 0.9)],
    ),
    "missed": (two_objects(), [detection(whole(A), 0.8)]),
}


@pytest.mark.parametrize("cause", ONE_CAUSE)
def test_a_single_cause_explains_the_whole_loss(cause):
    gt, results = ONE_CAUSE[cause]
    report = diagnose(gt, results)
    assert report["AP"] == evaluate_youtube_vis(gt, results)["AP"] < 0.9
    assert gains(report) == {cause}
    assert report["AP"] + report["waterfall"][cause] == pytest.approx(1.0, abs=1e-12)
    assert report["alone"][cause] == report["waterfall"][cause]


def test_swapped_identities_are_an_association_error_only():
    swapped = [
        detection([A] * 5 + [B] * 3, 0.9),
        detection([B] * 5 + [A] * 3, 0.8),
    ]
    report = diagnose(two_objects(), swapped)
    assert gains(report) == {"merged identities"}
    assert report["objects"] == {"all": 2, "found": 0, "split": 2, "merged": 2}
    places = [
        (s["video"], s["class"], s["ground_truth_id"], s["frame"]) for s in report["id_switches"]
    ]
    assert places == [("video 1", "person", 1, 5), ("video 1", "person", 2, 5)]
    assert [(s["before"], s["after"]) for s in report["id_switches"]] == [(0, 1), (1, 0)]


def test_a_poor_detection_scored_above_a_good_one_is_a_ranking_error():
    poor_first = [detection(whole(HALF_A), 0.9), detection(whole(B), 0.5)]
    report = diagnose(two_objects(), poor_first)
    assert gains(report) == {"score ranking", "masks"}
    good_first = diagnose(two_objects(), ONE_CAUSE["masks"][1])
    assert report["AP"] + report["waterfall"]["score ranking"] == pytest.approx(good_first["AP"])


def test_perfect_results_have_no_errors():
    report = diagnose(two_objects(), [detection(whole(A)), detection(whole(B))])
    assert report["AP"] == 1.0
    assert not any(report["waterfall"].values())
    assert not any(report["alone"].values())
    assert report["id_switches"] == []


def test_kinds_of_detections_are_counted():
    results = [
        detection(whole(A), 0.9),
        detection(whole(NEAR_A), 0.8),
        detection(whole(B), 0.7, category_id=1),
        detection(whole(FAR), 0.6),
        detection([B] * 2 + [None] * 6, 0.5, category_id=2),
    ]
    report = diagnose(two_objects((1, 2)), results)
    assert report["detections"] == {
        "correct": 1,
        "wrong class": 1,
        "poor masks": 0,
        "wrong class and poor masks": 0,
        "duplicate": 2,  # its object is already matched, by a detection of another class
        "background": 1,
    }


def random_set(rng):
    """Boxes that enter, leave and move; imprecise detections; crowds and empty masks."""
    empty = rle(0, 0, 0, 0)

    def box(x, y, side):
        return rle(int(x), int(y), int(x + side), int(y + side))

    annotations, results = [], []
    for video in (1, 2):
        tracks = []
        for _ in range(rng.integers(2, 5)):
            x, y, side = *rng.integers(0, 200, 2), rng.integers(20, 80)
            step = rng.integers(-8, 9, 2)
            shown = rng.random(LENGTH) < 0.8
            tracks.append((x, y, side, step, shown))
            masks = [
                box(max(x + f * step[0], 0), max(y + f * step[1], 0), side) if shown[f] else None
                for f in range(LENGTH)
            ]
            category = int(rng.integers(1, 3))
            crowd = int(rng.random() < 0.1)
            annotations.append(
                {
                    "video_id": video,
                    "category_id": category,
                    "segmentations": masks,
                    "iscrowd": crowd,
                }
            )
        for _ in range(rng.integers(0, 9)):
            masks = []
            follows = rng.integers(len(tracks))
            for f in range(LENGTH):
                follows = rng.integers(len(tracks)) if rng.random() < 0.2 else follows
                x, y, side, step, _ = tracks[follows]
                shift = rng.integers(-6, 7, 2)
                x, y = (max(v + f * s + d, 0) for v, s, d in zip((x, y), step, shift, strict=True))
                masks.append(box(x, y, side) if rng.random() < 0.8 else None)
            if rng.random() < 0.1:
                masks[0] = empty
            score = float(rng.integers(1, 10)) / 10  # ties happen
            results.append(detection(masks, score, video, int(rng.integers(1, 3))))
    results.append(detection([empty] * LENGTH, 0.5))
    return ground_truth(annotations, length=LENGTH, videos=(1, 2)), results


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_error_shares_add_up_to_one(seed):
    gt, results = random_set(np.random.default_rng(seed))
    assume(any(not annotation["iscrowd"] for annotation in gt["annotations"]))
    report = diagnose(gt, results)
    assert report["AP"] == pytest.approx(evaluate_youtube_vis(gt, results)["AP"], abs=1e-12)
    total = report["AP"] + sum(report["waterfall"].values())
    assert total == pytest.approx(1.0, abs=1e-12)
    assert report["limit"] == pytest.approx(0.0, abs=1e-12)
    assert sum(report["detections"].values()) == len(results)
    for bins in report["breakdown"].values():
        assert sum(entry["objects"] for entry in bins) == report["objects"]["all"]


@pytest.mark.parametrize("name", ["small", "medium"])
def test_the_errors_of_the_golden_results_add_up(name):
    gt, results, expected = (
        json.loads((GOLDEN / f"{name}_{part}.json").read_text())
        for part in ("gt", "results", "expected")
    )
    report = diagnose(gt, results)
    assert report["AP"] == pytest.approx(expected["AP"], abs=1e-9)
    total = report["AP"] + sum(report["waterfall"].values()) + report["limit"]
    assert total == pytest.approx(1.0, abs=1e-12)
    json.dumps(report, allow_nan=False)


def test_the_diagnosis_does_not_depend_on_the_order_of_results():
    gt, results = random_set(np.random.default_rng(11))
    for number, entry in enumerate(results):
        entry["score"] = 0.9 - number / 100  # no ties: the order decides those
    report = diagnose(gt, results)
    random.Random(0).shuffle(results)
    shuffled = diagnose(gt, results)
    for part in ("AP", "alone", "waterfall", "detections", "objects", "breakdown"):
        assert shuffled[part] == report[part], part
    assert len(shuffled["id_switches"]) == len(report["id_switches"])


def test_the_diagnosis_does_not_depend_on_worker_processes():
    gt, results = random_set(np.random.default_rng(5))
    assert diagnose(gt, results, workers=2) == diagnose(gt, results)


def test_objects_beyond_the_detection_limit_are_attributed_to_the_metric():
    pixels = [[rle(x, y, x + 2, y + 2)] for x in range(0, 110, 10) for y in range(0, 100, 10)]
    gt = ground_truth([{"segmentations": masks} for masks in pixels], length=1)
    report = diagnose(gt, [detection(masks) for masks in pixels])
    assert len(pixels) == 110
    assert report["AP"] == pytest.approx(91 / 101)  # recall .90 is reached, .91 is not
    assert report["limit"] == pytest.approx(10 / 101)


def test_objects_without_a_pixel_are_ignored():
    annotations = [{"segmentations": whole(A)}, {"segmentations": NOTHING}]
    report = diagnose(ground_truth(annotations, length=LENGTH), [detection(whole(A))])
    assert gains(report) == {"missed"}
    nothing = ground_truth(annotations[1:], length=LENGTH)
    with pytest.raises(InputError, match="no ground-truth object"):
        diagnose(nothing, [detection(whole(A))])


def test_speed_is_relative_to_the_box_and_spread_over_gaps():
    boxes = np.array([[0, 0, 10, 40], [6, 8, 10, 40], [np.nan] * 4, [46, 8, 10, 40]])
    assert speed(boxes) == pytest.approx((10 + 20) / 2 / 20)
    assert speed(boxes[:1]) == 0.0


def test_occlusion_is_the_share_that_one_other_box_covers():
    box = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [np.nan] * 4])
    half = np.array([[5, 0, 10, 10], [np.nan] * 4, [0, 0, 10, 10]])
    little = np.array([[0, 0, 1, 10], [0, 0, 1, 10], [0, 0, 1, 10]])
    assert occlusion(box, [half, little]) == pytest.approx((0.5 + 0.1) / 2)
    assert occlusion(box, []) == 0.0


def test_ap_by_length_leaves_other_lengths_out():
    lengths = [2, 4, 8]
    spots = [rle(x, 0, x + 40, 40) for x in (0, 100, 200)]
    tracks = [
        [spot] * length + [None] * (LENGTH - length)
        for spot, length in zip(spots, lengths, strict=True)
    ]
    gt = ground_truth([{"segmentations": masks} for masks in tracks], length=LENGTH)
    stray = [FAR] * 2 + [None] * 6  # a short false positive with the highest score
    results = [detection(stray, 0.9), *(detection(masks, 0.8) for masks in tracks[::2])]
    bins = diagnose(gt, results)["breakdown"]["length"]
    assert [(b["low"], b["high"], b["objects"]) for b in bins] == [
        (None, 4.0, 1),
        (4.0, 8.0, 1),
        (8.0, None, 1),
    ]
    assert [b["AP"] for b in bins] == pytest.approx([0.5, 0.0, 1.0])


def test_equal_objects_share_one_bin():
    gt, results = ONE_CAUSE["duplicates"]
    report = diagnose(gt, results)
    (entry,) = report["breakdown"]["length"]
    assert entry["AP"] == pytest.approx(report["AP"])
    assert (entry["low"], entry["high"], entry["objects"]) == (None, None, 2)


def test_the_command_line_writes_a_report(tmp_path, capsys):
    gt, results = ONE_CAUSE["split identities"]
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    paths = [str(tmp_path / "gt.json"), str(tmp_path / "results.json")]
    out = tmp_path / "why"
    assert main(["diagnose", *paths, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "split identities" in printed
    assert "objects covered by several detections" in printed
    assert json.loads((out / "report.json").read_text()) == diagnose(gt, results)
    assert (out / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_refused_results_leave_no_report(tmp_path, capsys):
    (tmp_path / "gt.json").write_text(json.dumps(two_objects()))
    (tmp_path / "results.json").write_text(json.dumps([detection([A])]))
    paths = [str(tmp_path / "gt.json"), str(tmp_path / "results.json")]
    assert main(["diagnose", *paths, "--out", str(tmp_path / "why")]) == 2
    assert "must have 8 entries, one per frame" in capsys.readouterr().err
    assert not (tmp_path / "why").exists()


# Lost AP by class and video


def test_precision_over_recall_is_that_of_the_reference():
    gt, results = ONE_CAUSE["missed"]
    curves = diagnose(gt, results)["precision_recall"]
    assert curves["recall"][:2] == [0.0, 0.01]
    assert list(curves["by_iou"]) == [f"{iou / 100:.2f}" for iou in range(50, 100, 5)]
    found_half = [1.0] * 51 + [0.0] * 50
    assert curves["by_iou"]["0.75"] == pytest.approx(found_half)
    assert list(curves["by_class"]) == ["person"]  # no dog in the ground truth
    assert curves["by_class"]["person"] == curves["by_iou"]["0.50"]


def test_objects_are_counted_by_predicted_class():
    gt = two_objects((1, 2))
    results = [detection(whole(A), 0.9, category_id=2), detection(whole(A), 0.8, category_id=2)]
    assert diagnose(gt, results)["confusion"] == [
        {"object": "person", "found_as": "dog", "count": 1},
        {"object": "dog", "found_as": None, "count": 1},
    ]


def test_the_cost_of_a_video_is_the_gain_of_correcting_it():
    gt = two_objects()
    gt["videos"].append({**gt["videos"][0], "id": 2})
    gt["annotations"] += [{**gt["annotations"][0], "id": 3, "video_id": 2}]
    right = [detection(whole(A), 0.9), detection(whole(B), 0.8)]
    report = diagnose(gt, [*right, detection(whole(FAR), 0.95, video_id=2)])
    lost = report["lost_per_video"]
    assert lost["video 1"] == 0.0
    assert lost["video 2"] == pytest.approx(1 - report["AP"])


def test_the_cost_of_a_video_equals_replacing_its_matches_before_pooling():
    """Ties between videos included: the order of the videos decides."""
    rng = np.random.default_rng(0)

    def video():
        scores = -np.sort(-rng.integers(0, 4, rng.integers(0, 5)) / 4)
        matched = rng.random((10, len(scores))) < 0.5
        ignored = rng.random((10, len(scores))) < 0.1
        return {k: Matches(scores, matched, ignored, int(rng.integers(1, 4))) for k in (1, 2)}

    before, after = [video() for _ in range(6)], [video() for _ in range(6)]
    del before[2][1], after[3][2], before[4][2], after[4][2]
    categories = {1: "person", 2: "dog"}
    precision = pooled_precision(before, categories)
    expected = [
        mean_defined(pooled_precision([*before[:k], after[k], *before[k + 1 :]], categories))
        - mean_defined(precision)
        for k in range(6)
    ]
    assert lost_per_video(before, after, precision, categories) == expected
