"""YouTube-VIS AP: the reference code's numbers, hand-computed cases, invariances."""

import copy
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from eval_cases import HEIGHT, WIDTH, box_mask, detection, ground_truth, rle
from pycocotools import mask as coco_mask

from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.average_precision import METRICS, match_detections
from queryinst_vis.masks import encode_rle

GOLDEN = Path(__file__).parent / "data" / "ytvis_eval"


def assert_same(found, expected):
    assert found.keys() >= expected.keys()
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name
    assert found["per_class_AP"].keys() == expected["per_class_AP"].keys()
    for name, value in expected["per_class_AP"].items():
        if value is None:
            assert found["per_class_AP"][name] is None
        else:
            assert found["per_class_AP"][name] == pytest.approx(value, abs=1e-9), name


def load_golden(name):
    return [
        json.loads((GOLDEN / f"{name}_{part}.json").read_text())
        for part in ("gt", "results", "expected")
    ]


@pytest.mark.parametrize("name", ["small", "medium"])
def test_metrics_equal_the_reference_code(name):
    expected = json.loads((GOLDEN / f"{name}_expected.json").read_text())
    found = evaluate_youtube_vis(GOLDEN / f"{name}_gt.json", str(GOLDEN / f"{name}_results.json"))
    assert_same(found, expected)
    json.dumps(found, allow_nan=False)  # what --json writes


def test_inputs_in_memory_are_not_modified():
    gt, results, expected = load_golden("medium")
    before = copy.deepcopy((gt, results))
    assert_same(evaluate_youtube_vis(gt, results), expected)
    assert (gt, results) == before


def test_a_zip_is_read_like_its_json(tmp_path):
    gt, _, expected = load_golden("small")
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(GOLDEN / "small_results.json", "results.json")
    assert_same(evaluate_youtube_vis(gt, path), expected)


# Hand-computed cases


def test_a_perfect_track_scores_1():
    masks = [rle(0, 0, 100, 100), None]
    found = evaluate_youtube_vis(ground_truth([{"segmentations": masks}]), [detection(masks)])
    for name in ("AP", "AP50", "AP75", "APs", "AR1", "AR10", "AR100", "ARs"):
        assert found[name] == pytest.approx(1.0), name
    for name in ("APm", "APl", "ARm", "ARl"):
        assert found[name] == -1, name
    assert found["per_class_AP"] == {"person": pytest.approx(1.0), "dog": None}


def test_classes_that_a_model_lacks_can_be_left_out():
    person, dog = [rle(0, 0, 100, 100)], [rle(100, 0, 100, 100)]
    gt = ground_truth(
        [{"segmentations": person}, {"segmentations": dog, "category_id": 2}], length=1
    )
    assert evaluate_youtube_vis(gt, [detection(person)])["AP"] == pytest.approx(0.5)
    found = evaluate_youtube_vis(gt, [detection(person)], classes=["person"])
    assert found["AP"] == found["per_class_AP"]["person"] == pytest.approx(1.0)
    assert found["per_class_AP"].keys() == {"person"}
    assert list(found["per_video_AP"].values()) == [pytest.approx(1.0)]


def test_iou_is_summed_over_frames_before_dividing():
    # intersections 100x100 and 0, unions 100x100 and 100x40: IoU 1 / 1.4 = 0.714,
    # whereas the mean of the frames' IoUs would be 0.5
    gt = ground_truth([{"segmentations": [rle(0, 0, 100, 100), rle(0, 0, 100, 40)]}])
    found = evaluate_youtube_vis(gt, [detection([rle(0, 0, 100, 100), None])])
    assert found["AP"] == pytest.approx(0.5)  # thresholds .5 .55 .6 .65 .7 of ten
    assert (found["AP50"], found["AP75"]) == (pytest.approx(1.0), 0.0)


def test_an_iou_equal_to_the_threshold_matches():
    gt = ground_truth([{"segmentations": [rle(0, 0, 100, 100), None]}])
    found = evaluate_youtube_vis(gt, [detection([rle(0, 0, 50, 100), None])])
    assert found["AP50"] == pytest.approx(1.0)
    assert found["AP"] == pytest.approx(0.1)


def test_a_false_positive_with_a_higher_score_halves_precision():
    masks = [rle(0, 0, 100, 100), None]
    wrong = [None, rle(200, 200, 300, 300)]
    gt = ground_truth([{"segmentations": masks}])
    found = evaluate_youtube_vis(gt, [detection(masks, 0.5), detection(wrong, 0.8)])
    assert found["AP"] == pytest.approx(0.5)
    assert (found["AR1"], found["AR10"]) == (0.0, 1.0)


def test_a_track_of_the_wrong_class_does_not_match():
    masks = [rle(0, 0, 100, 100), None]
    gt = ground_truth([{"segmentations": masks}])
    found = evaluate_youtube_vis(gt, [detection(masks, category_id=2)])
    assert found["per_class_AP"] == {"person": 0.0, "dog": None}


def test_a_duplicate_is_a_false_positive_but_ignored_on_a_crowd():
    track, crowd = [rle(0, 0, 100, 100), None], [None, rle(0, 0, 100, 100)]
    gt = ground_truth([{"segmentations": track}, {"segmentations": crowd, "iscrowd": 1}])
    on_crowd = [detection(crowd, 0.9), detection(crowd, 0.8), detection(track, 0.7)]
    assert evaluate_youtube_vis(gt, on_crowd)["AP"] == pytest.approx(1.0)
    twice = [detection(track, 0.9), detection(track, 0.8)]
    assert evaluate_youtube_vis(gt, twice)["AP"] == pytest.approx(1.0)  # recall 1 comes first
    plain = ground_truth([{"segmentations": track}, {"segmentations": crowd}])
    # hits at ranks 1 and 3: precision 1 up to recall .5 (51 points), then 2/3 (50 points)
    expected = (51 + 50 * 2 / 3) / 101
    assert evaluate_youtube_vis(plain, on_crowd)["AP"] == pytest.approx(expected)


def test_area_ranges_follow_the_mean_over_the_frames_that_show_the_object():
    # 150x150 pixels in one frame of two: medium by the frames shown, small by all frames
    for absent in (None, rle(0, 0, 0, 0)):
        masks = [rle(0, 0, 150, 150), absent]
        found = evaluate_youtube_vis(ground_truth([{"segmentations": masks}]), [detection(masks)])
        assert (found["APs"], found["APm"], found["APl"]) == (-1, pytest.approx(1.0), -1)
    on_the_bound = [rle(0, 0, 128, 128), rle(0, 0, 128, 128)]
    gt = ground_truth([{"segmentations": on_the_bound}])
    found = evaluate_youtube_vis(gt, [detection(on_the_bound)])
    assert (found["APs"], found["APm"]) == (pytest.approx(1.0), pytest.approx(1.0))


def test_annotated_areas_determine_the_area_range():
    masks = [rle(0, 0, 10, 10), None]
    gt = ground_truth([{"segmentations": masks, "areas": [70000.0, None]}])
    found = evaluate_youtube_vis(gt, [detection(masks)])
    assert (found["APs"], found["APl"]) == (-1, pytest.approx(1.0))


def test_only_the_hundred_best_of_a_video_and_class_count():
    masks, wrong = [rle(0, 0, 100, 100), None], [None, rle(0, 0, 5, 5)]
    gt = ground_truth([{"segmentations": masks}])
    crowded = [detection(wrong, 0.9)] * 99 + [detection(masks, 0.5)]
    assert evaluate_youtube_vis(gt, crowded)["AR100"] == 1.0
    assert evaluate_youtube_vis(gt, [detection(wrong, 0.9), *crowded])["AR100"] == 0.0


def test_empty_masks_and_all_null_tracks_are_ignored():
    masks, nothing = [rle(0, 0, 100, 100), None], [rle(0, 0, 0, 0), None]
    gt = ground_truth([{"segmentations": masks}, {"segmentations": [None, None]}])
    found = evaluate_youtube_vis(gt, [detection(masks), detection(nothing, 0.5)])
    assert found["AR100"] == 0.5  # ground truth without pixels is a false negative


def test_all_mask_encodings_of_the_ground_truth_are_equivalent():
    mask = box_mask(10, 20, 110, 120)
    runs = np.flatnonzero(np.diff(np.pad(mask.ravel(order="F").astype(int), 1, constant_values=0)))
    plain = np.diff(np.concatenate([[0], runs, [mask.size]])).tolist()
    forms = [
        encode_rle(mask),
        {"size": [HEIGHT, WIDTH], "counts": plain},
        [[10, 20, 110, 20, 110, 120, 10, 120]],
    ]
    assert coco_mask.area(coco_mask.frPyObjects(forms[1], HEIGHT, WIDTH)) == mask.sum()
    for form in forms:
        gt = ground_truth([{"segmentations": [form, None]}])
        found = evaluate_youtube_vis(gt, [detection([forms[0], []])])
        assert found["AP"] == pytest.approx(1.0), form


def test_metrics_without_any_ground_truth_are_undefined():
    found = evaluate_youtube_vis(ground_truth([]), [detection([rle(0, 0, 9, 9), None])])
    assert all(found[name] == -1 for name in METRICS)
    assert found["per_class_AP"] == {"person": None, "dog": None}


# Videos


def test_the_ap_of_a_video_equals_evaluating_it_alone():
    gt, results, _ = load_golden("medium")
    found = evaluate_youtube_vis(gt, results)
    assert len({*found["per_video_AP"].values()}) > 3
    assert found["videos"]["count"] == len(gt["videos"]) == len(found["per_video_AP"])
    for video, value in zip(gt["videos"], found["per_video_AP"].values(), strict=True):
        alone = {
            **gt,
            "videos": [video],
            "annotations": [a for a in gt["annotations"] if a["video_id"] == video["id"]],
        }
        mine = [entry for entry in results if entry["video_id"] == video["id"]]
        if not mine:  # a file without results is refused: take a wrong one
            length, category = video["length"], gt["categories"][0]["id"]
            mine = [detection([None] * length, video_id=video["id"], category_id=category)]
        expected = evaluate_youtube_vis(alone, mine)["AP"]
        assert value == (None if expected == -1 else expected)


def test_videos_are_named_by_folder_and_each_by_a_name_of_its_own():
    gt = ground_truth([], videos=(1, 2, 3, 4))
    for video, folder in zip(gt["videos"], ("street", "park", "street", None), strict=True):
        if folder:
            video["file_names"] = [f"{folder}/{video['id']}_{k}.jpg" for k in range(2)]
    found = evaluate_youtube_vis(gt, [detection([None, None])])
    names = ["street (video 1)", "park", "street (video 3)", "video 4"]
    assert list(found["per_video_AP"]) == names


def test_the_checksum_names_the_set_and_not_the_results():
    gt, results, _ = load_golden("medium")
    checksum = evaluate_youtube_vis(gt, results)["videos"]["checksum"]
    assert evaluate_youtube_vis(gt, results[:3])["videos"]["checksum"] == checksum
    gt["videos"].pop()
    kept = {video["id"] for video in gt["videos"]}
    gt["annotations"] = [a for a in gt["annotations"] if a["video_id"] in kept]
    results = [entry for entry in results if entry["video_id"] in kept]
    assert evaluate_youtube_vis(gt, results)["videos"]["checksum"] != checksum


def test_more_than_255_masks_are_counted():
    length = 300  # pycocotools' area() accepts at most 255 masks
    masks = [rle(k % 200, 0, k % 200 + 100, 100) for k in range(length)]
    gt = ground_truth([{"segmentations": masks}], length=length)
    assert evaluate_youtube_vis(gt, [detection(masks)])["AP"] == pytest.approx(1.0)


# Invariances


def test_metrics_do_not_depend_on_the_order_of_videos_and_annotations():
    gt, results, expected = load_golden("medium")
    rng = np.random.default_rng(0)
    for number, entry in enumerate(results):  # equal scores are decided by order
        entry["score"] += number * 1e-6
    expected = evaluate_youtube_vis(gt, results)
    for part in (gt["videos"], gt["annotations"], gt["categories"], results):
        rng.shuffle(part)
    assert_same(evaluate_youtube_vis(gt, results), expected)


def test_ids_need_not_be_consecutive():
    gt, results, expected = load_golden("medium")
    for video in gt["videos"]:
        video["id"] = 7 * video["id"] + 100
    for category in gt["categories"]:
        category["id"] = 90 - category["id"]
    for entry in [*gt["annotations"], *results]:
        entry["video_id"] = 7 * entry["video_id"] + 100
        entry["category_id"] = 90 - entry["category_id"]
    for annotation in gt["annotations"]:
        annotation["id"] -= 1  # id 0 is valid
    assert_same(evaluate_youtube_vis(gt, results), expected)


def test_videos_without_ground_truth_add_only_false_positives():
    masks = [rle(0, 0, 100, 100), None]
    gt = ground_truth([{"segmentations": masks}], videos=(1, 2, 3))
    assert evaluate_youtube_vis(gt, [detection(masks)])["AP"] == pytest.approx(1.0)
    found = evaluate_youtube_vis(gt, [detection(masks), detection(masks, 0.95, video_id=3)])
    assert found["AP"] == pytest.approx(0.5)


def test_of_equal_overlaps_the_later_ground_truth_is_taken():
    # as in the reference code: the second detection finds its only candidate gone
    ious = np.array([[0.6, 0.6], [0.0, 0.6]])
    nothing = np.zeros(2, dtype=bool)
    matched, ignored = match_detections(ious, ground_truth_ignored=nothing, crowd=nothing)
    assert matched[0].tolist() == [True, False]  # at IoU .5
    assert not matched[-1].any() and not ignored.any()


def test_several_detections_of_ignored_ground_truth_are_matched_independently():
    rng = np.random.default_rng(0)
    for _ in range(30):
        ious = rng.choice([0.0, 0.4, 0.5, 0.6, 0.9, 1.0], size=(6, 4))
        crowd = rng.random(4) < 0.2
        ignored_truths = crowd | (rng.random((3, 4)) < 0.4)
        together = match_detections(ious, ignored_truths, crowd)
        alone = [match_detections(ious, row, crowd) for row in ignored_truths]
        for found, expected in zip(together, zip(*alone, strict=True), strict=True):
            assert (found == np.stack(expected)).all()
