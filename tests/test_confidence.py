"""Bootstrap over videos: confidence intervals and paired comparison."""

import json

import numpy as np
import pytest
from eval_cases import detection, ground_truth, rle
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import resampling
from queryinst_vis.evaluation.average_precision import (
    METRICS,
    UNDEFINED,
    Matches,
    match_detections,
    pool_detections,
)
from queryinst_vis.evaluation.confidence import (
    compare_results,
    confidence_intervals,
    evaluate_with_confidence,
    verdict,
)
from queryinst_vis.evaluation.resampling import (
    draw_videos,
    resampled_metrics,
    weighted_precision_and_recall,
)
from queryinst_vis.evaluation.tracking_confidence import evaluate_tracking_with_confidence
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.evaluation.youtube_vis import AREA_RANGES, summarise

CATEGORIES = {1: "person", 2: "dog", 7: "cat"}


def random_matches(rng, most=8):
    """Random matches of one class in a video, some ignored."""
    detections, objects = rng.integers(0, most + 1), rng.integers(0, 4)
    ignored_ground_truth = rng.random(objects) < 0.2
    matched, ignored = match_detections(
        rng.random((detections, objects)), ignored_ground_truth, np.zeros(objects, dtype=bool)
    )
    ignored |= ~matched & (rng.random(detections) < 0.2)
    scores = -np.sort(-rng.random(detections))
    return Matches(scores, matched, ignored, int((~ignored_ground_truth).sum()))


def random_videos(rng, number):
    return [
        {
            (category, area_range): random_matches(rng)
            for category in CATEGORIES
            if rng.random() < 0.7
            for area_range in AREA_RANGES
        }
        for _ in range(number)
    ]


@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([1, 3, 100]))
@settings(max_examples=100, deadline=None)
def test_unit_weights_give_exactly_the_plain_metrics(seed, limit):
    rng = np.random.default_rng(seed)
    videos = [random_matches(rng) for _ in range(rng.integers(1, 6))]
    curve = pool_detections(videos, limit)
    precision, recall = curve.precision, curve.recall
    weights = np.ones((2, len(videos)), dtype=int)
    weighted_precision, weighted_recall = weighted_precision_and_recall(videos, limit, weights)
    for sample in range(2):
        np.testing.assert_array_equal(weighted_precision[sample], precision)
        np.testing.assert_array_equal(weighted_recall[sample], recall)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_weighting_a_video_equals_repeating_it(seed):
    rng = np.random.default_rng(seed)
    videos = random_videos(rng, 5)
    weights = rng.integers(0, 4, size=(3, 5))
    found = resampled_metrics(videos, CATEGORIES, weights)
    for sample, weight in enumerate(weights):
        copies = [video for video, times in zip(videos, weight, strict=True) for _ in range(times)]
        expected = summarise(copies, CATEGORIES)
        for name in METRICS:
            if expected[name] == UNDEFINED:
                assert np.isnan(found[name][sample]), name
            else:
                assert found[name][sample] == pytest.approx(expected[name], abs=1e-12), name


def test_bootstrap_samples_may_be_computed_in_chunks(monkeypatch):
    rng = np.random.default_rng(3)
    videos, weights = random_videos(rng, 6), draw_videos(6, 50, seed=0)
    whole = resampled_metrics(videos, CATEGORIES, weights)
    monkeypatch.setattr(resampling, "CHUNK", 40)  # one or two samples at once
    pieces = resampled_metrics(videos, CATEGORIES, weights)
    for name in METRICS:
        np.testing.assert_array_equal(whole[name], pieces[name])


def test_each_bootstrap_sample_has_as_many_videos_as_the_set():
    weights = draw_videos(num_videos=7, samples=2000, seed=1)
    assert weights.shape == (2000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)


def noisy_results(seed, noise, videos=range(1, 21), width=60):
    """Two objects a video: boxes shifted by up to ``noise`` pixels, some missing, some wrong."""
    rng = np.random.default_rng(seed)
    results = []
    for video in videos:
        for x in (0, 100):
            shift = int(rng.integers(0, noise + 1))
            category = 1 if rng.random() < 0.9 else 2
            masks = [rle(x + shift, 0, x + shift + width, 50)] * 2
            results.append(detection(masks, float(rng.random()), video, category))
    return results


def twenty_videos():
    annotations = [
        {"video_id": video, "segmentations": [rle(x, 0, x + 60, 50)] * 2}
        for video in range(1, 21)
        for x in (0, 100)
    ]
    return ground_truth(annotations, videos=range(1, 21))


def test_the_interval_contains_the_value_and_is_reproducible_by_seed(tmp_path):
    gt, a, b = twenty_videos(), noisy_results(0, 30), noisy_results(1, 30)
    first, again = (compare_results(gt, a, b, 200, seed=5) for _ in range(2))
    assert first == again
    assert first != compare_results(gt, a, b, 200, seed=6)
    found = first["metrics"]["AP"]
    low, high = found["interval"]
    assert low < found["difference"] < high
    assert found["difference"] == found["b"] - found["a"]
    assert first["metrics"]["APl"] is None  # there are no large objects
    json.dumps(first, allow_nan=False)


def test_comparing_a_file_with_itself_finds_no_difference():
    gt, results = twenty_videos(), noisy_results(0, 30)
    comparison = compare_results(gt, results, results, samples=100)
    for name in ("AP", "AP50", "AP75", "AR1", "AR100"):
        found = comparison["metrics"][name]
        assert (found["difference"], found["interval"]) == (0.0, [0.0, 0.0])
        assert (found["b_wins"], found["ties"]) == (0.0, 1.0)
    assert verdict(comparison).startswith("no significant difference: B - A is +0.0 AP")


def test_a_result_better_in_every_video_wins_every_sample():
    gt, good, poor = twenty_videos(), noisy_results(0, 2), noisy_results(0, 30)
    comparison = compare_results(gt, poor, good, samples=200)
    found = comparison["metrics"]["AP"]
    low, high = found["interval"]
    assert 0 < low < found["difference"] < high
    assert found["b_wins"] == 1.0
    points = f"{100 * found['difference']:.1f} AP [{100 * low:.1f}, {100 * high:.1f}]"
    assert verdict(comparison) == f"B is better than A by {points}"
    assert (
        verdict(compare_results(gt, good, poor, samples=200)) == f"A is better than B by {points}"
    )


def test_the_paired_interval_is_narrower_than_the_unpaired_ones():
    """Where videos differ more than results do, the difference has a narrower interval."""
    gt = twenty_videos()
    easy = noisy_results(0, 0, range(1, 11))
    a, b = (easy + noisy_results(0, noise, range(11, 21)) for noise in (28, 30))
    found = compare_results(gt, a, b, samples=200)["metrics"]["AP"]
    alone = compare_results(gt, a, noisy_results(9, 30), samples=200)["metrics"]["AP"]
    width, unpaired = (high - low for low, high in (found["interval"], alone["interval"]))
    assert width < unpaired / 2


def test_intervals_of_one_result_file_contain_its_metrics():
    videos = random_videos(np.random.default_rng(0), 40)
    found = confidence_intervals(videos, CATEGORIES, samples=300, seed=2)
    assert (found["samples"], found["seed"], found["level"]) == (300, 2, 0.95)
    metrics = summarise(videos, CATEGORIES)
    for name in ("AR1", "AR10", "AR100"):
        low, high = found["intervals"][name]
        assert 0 <= low < metrics[name] < high <= 1
    assert found == confidence_intervals(videos, CATEGORIES, samples=300, seed=2)


def test_eval_video_prints_intervals_on_request(tmp_path, capsys):
    gt, results = twenty_videos(), noisy_results(0, 30)
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    paths = [str(tmp_path / "gt.json"), str(tmp_path / "results.json")]
    out = tmp_path / "out.json"
    assert main(["eval-video", *paths, "--json", str(out)]) == 0
    assert "interval" not in capsys.readouterr().out
    assert "confidence" not in (plain := json.loads(out.read_text()))
    assert main(["eval-video", *paths, "--confidence", "50", "--json", str(out)]) == 0
    sure = json.loads(out.read_text())
    low, high = sure["confidence"]["intervals"]["AP"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in capsys.readouterr().out
    assert {name: value for name, value in sure.items() if name != "confidence"} == plain


def test_a_single_video_has_no_interval():
    gt = ground_truth([{"segmentations": [rle(0, 0, 60, 50)] * 2}])
    results = [detection([rle(0, 0, 60, 50)] * 2)]
    for run in (
        lambda: compare_results(gt, results, results),
        lambda: evaluate_with_confidence(gt, results),
    ):
        with pytest.raises(InputError, match=r"two.* has 1"):
            run()


def test_the_compare_command_prints_and_writes_the_better_result(tmp_path, capsys):
    files = {"gt": twenty_videos(), "a": noisy_results(0, 30), "b": noisy_results(0, 2)}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    paths = [str(tmp_path / f"{name}.json") for name in files]
    out = tmp_path / "out.json"
    assert main(["compare", *paths, "--samples", "50", "--seed", "3", "--json", str(out)]) == 0
    assert "B is better than A by" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert (written["samples"], written["seed"]) == (50, 3)
    assert main(["compare", *paths, "--seed", "-1"]) == 2
    assert "expected a non-negative integer" in capsys.readouterr().err


# HOTA and IDF1


@pytest.fixture
def tracked():
    """Four videos, each with a longer correct track of a person than the one before."""
    mask = rle(0, 0, 60, 50)
    gt = ground_truth(
        [{"video_id": video, "segmentations": [mask] * 4} for video in range(1, 5)],
        length=4,
        videos=range(1, 5),
    )
    results = [
        detection([mask] * video + [None] * (4 - video), video_id=video) for video in range(1, 5)
    ]
    return gt, results


@pytest.mark.parametrize("category", [1, 2], ids=["one class", "a class that is not always drawn"])
def test_tracking_intervals_equal_evaluations_of_the_resampled_sets(tracked, category):
    gt, results = tracked
    gt["annotations"][0]["category_id"] = results[0]["category_id"] = category
    samples = 40
    found = evaluate_tracking_with_confidence(gt, results, samples, seed=3)
    weights = draw_videos(4, samples, 3)
    values = {"HOTA": [], "IDF1": []}
    for weight in weights:
        drawn = [v for v, times in enumerate(weight, start=1) for _ in range(times)]
        copies = {
            **gt,
            "videos": [{**gt["videos"][v - 1], "id": k} for k, v in enumerate(drawn, start=1)],
            "annotations": [
                {**gt["annotations"][v - 1], "id": k, "video_id": k}
                for k, v in enumerate(drawn, start=1)
            ],
        }
        copied = [{**results[v - 1], "video_id": k} for k, v in enumerate(drawn, start=1)]
        metrics = evaluate_tracking(copies, copied)["class_averaged"]
        for name in values:
            values[name].append(metrics[name])
    for name, drawn in values.items():
        expected = np.quantile(drawn, (0.025, 0.975))
        assert found["confidence"]["intervals"][name] == pytest.approx(list(expected))
        assert expected[0] < found["class_averaged"][name] < expected[1]


def test_eval_tracking_prints_intervals(tracked, tmp_path, capsys):
    for name, content in zip(("gt.json", "results.json"), tracked, strict=True):
        (tmp_path / name).write_text(json.dumps(content))
    paths = [str(tmp_path / "gt.json"), str(tmp_path / "results.json")]
    assert main(["eval-tracking", *paths, "--confidence", "50"]) == 0
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert "50 resamples (seed 0) of 4 videos" in printed
