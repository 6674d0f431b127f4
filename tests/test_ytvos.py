"""Drop-in YTVOS and YTVOSeval: names and numbers of the YouTube-VIS API."""

import json
from pathlib import Path

import numpy as np
import pytest
from eval_cases import HEIGHT, WIDTH, box_mask, detection, ground_truth, rle

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.ytvos import YTVOS, YTVOSeval

GOLDEN = Path(__file__).parent / "data" / "ytvis_eval"


def evaluation_of(gt, results, **changes):
    """Evaluate as a script does, with changed parameters."""
    annotations = YTVOS(gt)
    evaluation = YTVOSeval(annotations, annotations.loadRes(results), "segm")
    for name, value in changes.items():
        setattr(evaluation.params, name, value)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def golden_evaluation(name="medium", **changes):
    return evaluation_of(GOLDEN / f"{name}_gt.json", GOLDEN / f"{name}_results.json", **changes)


def two_classes():
    """A detected person, and a dog classified as a person."""
    person, dog = [rle(0, 0, 100, 100), None], [None, rle(200, 200, 300, 300)]
    gt = ground_truth([{"segmentations": person}, {"segmentations": dog, "category_id": 2}])
    return gt, [detection(person, 0.9), detection(dog, 0.8)]


# Numbers


@pytest.mark.parametrize("name", ["small", "medium"])
def test_stats_equal_the_reference_code(name, capsys):
    expected = json.loads((GOLDEN / f"{name}_expected.json").read_text())
    evaluation = golden_evaluation(name)
    evaluation.summarize()
    assert isinstance(evaluation.stats, np.ndarray)
    assert evaluation.stats == pytest.approx([expected[key] for key in METRICS], abs=1e-9)
    lines = [line for line in capsys.readouterr().out.splitlines() if "@[ IoU=" in line]
    first = f"{expected['AP']:.3f}"
    assert lines[0] == (
        f" Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = {first}"
    )
    assert len(lines) == 12


def test_arrays_have_the_shapes_of_the_reference_code():
    evaluation = golden_evaluation()
    classes = len(evaluation.params.catIds)
    assert evaluation.eval["counts"] == [10, 101, classes, 4, 3]
    assert evaluation.eval["precision"].shape == (10, 101, classes, 4, 3)
    assert evaluation.eval["scores"].shape == (10, 101, classes, 4, 3)
    assert evaluation.eval["recall"].shape == (10, classes, 4, 3)
    assert evaluation.eval["params"] is evaluation.params
    expected = json.loads((GOLDEN / "medium_expected.json").read_text())["per_class_AP"]
    for k, name in enumerate(expected):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        mean = precision[precision > -1].mean() if (precision > -1).any() else None
        assert mean == (None if expected[name] is None else pytest.approx(expected[name]))


def test_scores_are_those_of_the_detections_that_reach_a_recall():
    gt, results = two_classes()
    gt["annotations"][1]["category_id"] = 1  # both found, at .9 and .8
    scores = evaluation_of(gt, results).eval["scores"][0, :, 0, 0, 2]
    assert scores[:51] == pytest.approx(0.9)
    assert scores[51:] == pytest.approx(0.8)
    missed = evaluation_of(gt, results[:1]).eval["scores"][0, :, 0, 0, 2]
    assert missed[51:] == pytest.approx(0.0)


def test_ious_are_by_video_and_class_best_detection_first():
    gt, results = two_classes()
    results.append(detection([rle(0, 0, 50, 100), None], 0.95))
    ious = evaluation_of(gt, results).ious
    assert ious[1, 1][:, 0] == pytest.approx([0.5, 1.0, 0.0])
    assert ious[1, 2].shape == (0, 1)


# Parameters


def test_thresholds_limits_and_recall_points_can_be_chosen():
    gt, _ = two_classes()
    half = [detection([rle(0, 0, 60, 100), None], 0.9), detection([None, rle(0, 0, 5, 5)], 0.95)]
    evaluation = evaluation_of(
        gt, half, iouThrs=[0.5, 0.7], maxDets=[1, 2], recThrs=np.array([0.0, 1.0]), catIds=[1]
    )
    # IoU .6, ranked second after a false positive
    assert evaluation.eval["precision"].shape == (2, 2, 1, 4, 2)
    assert evaluation.eval["precision"][:, :, 0, 0, 0].tolist() == [[0, 0], [0, 0]]
    assert evaluation.eval["precision"][:, :, 0, 0, 1].tolist() == [[0.5, 0.5], [0, 0]]


def test_classes_can_be_ignored():
    gt, results = two_classes()
    by_class = evaluation_of(gt, results)
    assert by_class.eval["recall"][0, :, 0, 2].tolist() == [1.0, 0.0]
    together = evaluation_of(gt, results, useCats=0)
    assert together.eval["counts"][2] == 1
    assert together.eval["recall"][0, :, 0, 2].tolist() == [1.0]
    assert together.ious[1, -1].shape == (2, 2)


def test_videos_and_classes_can_be_chosen():
    gt = json.loads((GOLDEN / "medium_gt.json").read_text())
    results = json.loads((GOLDEN / "medium_results.json").read_text())
    videos = [video["id"] for video in gt["videos"]][:4]
    part = {
        **gt,
        "videos": [video for video in gt["videos"] if video["id"] in videos],
        "annotations": [entry for entry in gt["annotations"] if entry["video_id"] in videos],
    }
    expected = evaluate_youtube_vis(part, [e for e in results if e["video_id"] in videos])
    evaluation = golden_evaluation(vidIds=videos[::-1])
    evaluation.summarize()
    assert evaluation.stats == pytest.approx([expected[name] for name in METRICS])
    by_class = expected["per_class_AP"]
    category = next(each for each in gt["categories"] if by_class[each["name"]])
    evaluation = golden_evaluation(vidIds=videos, catIds=[category["id"]])
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(by_class[category["name"]])


def test_area_ranges_can_be_chosen():
    gt, results = two_classes()
    evaluation = evaluation_of(
        gt, results, areaRng=[[0, 1e10], [0, 9999]], areaRngLbl=["all", "tiny"]
    )
    assert evaluation.eval["recall"][0, 0, :, 2].tolist() == [1.0, -1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iouThrs": [0.9, 0.5]}, "params.iouThrs: must be ascending numbers"),
        ({"iouThrs": []}, "params.iouThrs: must be ascending numbers"),
        ({"recThrs": [0.5, 1.5]}, "params.recThrs: must lie between 0 and 1"),
        ({"maxDets": [0]}, "params.maxDets: must be positive integers"),
        ({"vidIds": [77]}, "params.vidIds: must be ids of the ground truth, has [77]"),
        ({"catIds": [9]}, "params.catIds: must be ids of the ground truth, has [9]"),
        ({"areaRngLbl": ["all"]}, "params.areaRng: needs one range per name"),
        ({"iouType": "bbox"}, "params.iouType: only 'segm' is evaluated, not 'bbox'"),
    ],
)
def test_invalid_parameters_are_refused(changes, message):
    with pytest.raises(InputError) as caught:
        evaluation_of(*two_classes(), **changes)
    assert message in str(caught.value)


def test_steps_out_of_order_are_refused():
    gt, results = two_classes()
    annotations = YTVOS(gt)
    evaluation = YTVOSeval(annotations, annotations.loadRes(results))
    with pytest.raises(InputError, match=r"evaluate\(\)"):
        evaluation.accumulate()
    evaluation.evaluate()
    with pytest.raises(InputError, match=r"accumulate\(\)"):
        evaluation.summarize()
    evaluation.params.maxDets = [5]
    with pytest.raises(InputError, match="params changed since"):
        evaluation.accumulate()
    with pytest.raises(InputError, match="needs ground truth and results"):
        YTVOSeval().evaluate()


# Annotations


def test_annotations_are_found_by_video_class_area_and_crowd():
    gt = ground_truth(
        [
            {"segmentations": [rle(0, 0, 10, 10), None]},
            {"segmentations": [rle(0, 0, 20, 20)] * 2, "category_id": 2, "video_id": 2},
            {"segmentations": [None, None], "iscrowd": 1, "areas": [None, 900]},
        ],
        videos=(1, 2),
    )
    annotations = YTVOS(gt)
    assert annotations.getAnnIds() == [1, 2, 3]
    assert annotations.getAnnIds(vidIds=1) == [1, 3]
    assert annotations.getAnnIds(vidIds=[1, 2], catIds=[2]) == [2]
    assert annotations.getAnnIds(areaRng=[100, 900]) == [2]  # bounds are exclusive
    assert annotations.getAnnIds(iscrowd=True) == [3]
    assert [entry["id"] for entry in annotations.vidToAnns[1]] == [1, 3]
    assert annotations.catToVids[1] == [1, 1]
    assert annotations.getVidIds() == [1, 2]
    assert annotations.getVidIds(catIds=[1]) == [1]
    assert annotations.getVidIds(vidIds=[2], catIds=[1]) == []
    assert annotations.loadAnns([2])[0] is gt["annotations"][1]
    assert annotations.loadVids(1) == [gt["videos"][0]]
    assert annotations.anns[3]["areas"] == [None, 900]


def test_classes_are_found_by_name():
    gt = ground_truth([])
    gt["categories"][0]["supercategory"] = "being"
    annotations = YTVOS(gt)
    assert annotations.getCatIds() == [1, 2]
    assert annotations.getCatIds(catNms="dog") == [2]
    assert annotations.getCatIds(supNms=["being"]) == [1]
    assert annotations.loadCats(2) == [{"id": 2, "name": "dog"}]


@pytest.mark.parametrize("form", ["compressed", "plain", "polygon"])
def test_masks_of_an_annotation_are_decoded(form):
    expected = box_mask(10, 20, 30, 60)
    masks = {
        "compressed": rle(10, 20, 30, 60),
        "plain": {
            "size": [HEIGHT, WIDTH],
            "counts": [10 * HEIGHT + 20, *[40, HEIGHT - 40] * 19, 40, (WIDTH - 29) * HEIGHT - 60],
        },
        "polygon": [[10, 20, 30, 20, 30, 60, 10, 60]],
    }
    annotations = YTVOS(ground_truth([{"segmentations": [masks[form], None]}]))
    assert (annotations.annToMask(annotations.anns[1], 0) == expected).all()
    assert annotations.annToRLE(annotations.anns[1], 0) == masks["compressed"]


def test_results_get_ids_areas_and_boxes_without_modifying_the_input():
    gt, results = two_classes()
    before = json.dumps(results)
    loaded = YTVOS(gt).loadRes(results)
    assert json.dumps(results) == before
    entry = loaded.anns[2]
    assert entry["areas"] == [None, 10000]
    assert entry["bboxes"] == [None, [200.0, 200.0, 100.0, 100.0]]
    assert (entry["avg_area"], entry["iscrowd"], entry["score"]) == (10000.0, 0, 0.8)
    assert loaded.getAnnIds(catIds=[1]) == [1, 2]


def test_a_path_and_its_content_give_the_same_set(tmp_path, capsys):
    gt, results = two_classes()
    gt["info"] = {"year": 2026}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    annotations = YTVOS(str(path))
    assert annotations.dataset == gt
    annotations.info()
    assert capsys.readouterr().out == "year: 2026\n"
    assert annotations.loadRes(tmp_path / "results.json").dataset["annotations"][0]["id"] == 1
    assert YTVOS().getAnnIds() == []


def test_an_empty_result_list_is_an_empty_set():
    gt, _ = two_classes()
    found = YTVOS(gt).loadRes([])
    assert found.anns == {}
    assert found.vids.keys() == YTVOS(gt).vids.keys()


def test_unusable_files_are_refused_in_one_line(tmp_path):
    gt, results = two_classes()
    faults = [
        lambda: YTVOS(tmp_path / "none.json"),
        lambda: YTVOS({"annotations": [{"id": 1}]}),
        lambda: YTVOS({"videos": [7]}),
        lambda: YTVOS(gt).loadRes([{**results[0], "video_id": 5}]),
        lambda: YTVOS(gt).loadRes([{**results[0], "segmentations": [None]}]),
    ]
    for fault in faults:
        with pytest.raises(InputError) as caught:
            fault()
        assert "\n" not in str(caught.value)
