"""HOTA, IDF1 and CLEAR MOT on masks: trackeval's numbers, hand-computed cases, invariances."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from eval_cases import detection, ground_truth, rle
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.clear import IdSwitch, id_switches
from queryinst_vis.evaluation.coverage import COVERAGE_COUNTS, RATIOS
from queryinst_vis.evaluation.hota import ALPHAS
from queryinst_vis.evaluation.tracking_metrics import TRACKEVAL_COUNTS, evaluate_tracking
from queryinst_vis.formats.video_set import VideoSet

DATA = Path(__file__).parent / "data"
MASK, ELSEWHERE = rle(0, 0, 100, 100), rle(200, 200, 300, 300)
FRACTIONS = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "IDF1", "IDR")


def load_frozen(name):
    content = json.loads((DATA / f"trackeval_{name}.json").read_text())
    return content["gt"], content["results"], content["expected"]


def assert_same(found, expected):
    """``found`` has the metrics of ``expected`` and, next to trackeval's, those of coverage."""
    assert expected.keys() <= found.keys() <= {*expected, *COVERAGE_COUNTS, *RATIOS}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def of_person(annotations, results, length=4, **options):
    """The metrics of the only class that occurs, with ground truth of ``length`` frames."""
    found = evaluate_tracking(ground_truth(annotations, length=length), results, **options)
    return found["per_class"]["person"]


def track(*masks):
    return {"segmentations": list(masks)}


# The published implementation


@pytest.mark.parametrize("name", ["mots", "youtube_vis"])
def test_metrics_equal_trackeval(name):
    gt, results, expected = load_frozen(name)
    found = evaluate_tracking(gt, results)
    json.dumps(found, allow_nan=False)  # what --json writes
    for pooling in ("class_averaged", "detection_averaged"):
        assert_same(found[pooling], expected[pooling])
    for category in ("car", "person"):
        assert_same(found["per_class"][category], expected["per_class"][category])
        for curve, values in expected["curves"][category].items():
            assert found["curves"][category][curve] == pytest.approx(values, abs=1e-12), curve
    assert len(found["per_video"]) == len(expected["per_video"]) == 3
    for video, numbers in zip(found["per_video"], expected["per_video"], strict=True):
        assert video.pop("video")
        assert_same(video, numbers)


@pytest.mark.parametrize("name", ["mots", "youtube_vis"])
def test_the_frozen_cases_show_every_kind_of_error(name):
    scores = load_frozen(name)[2]["detection_averaged"]
    assert all(scores[count] > 0 for count in TRACKEVAL_COUNTS)


def test_the_frozen_mots_case_depends_on_its_regions_to_ignore():
    gt, results, expected = load_frozen("mots")
    plain = [track for track in gt["annotations"] if not track["iscrowd"]]
    without = evaluate_tracking({**gt, "annotations": plain}, results)["detection_averaged"]
    assert without["FP"] > expected["detection_averaged"]["FP"]


# Hand-computed cases


def test_a_perfect_track_scores_1():
    found = of_person([track(MASK, MASK, None, MASK)], [detection([MASK, MASK, None, MASK])])
    for name in (*FRACTIONS, "IDP", "MOTA", "sMOTA", "MOTP"):
        assert found[name] == pytest.approx(1.0), name
    counts = {name: found[name] for name in TRACKEVAL_COUNTS}
    assert counts == {
        **dict.fromkeys(TRACKEVAL_COUNTS, 0),
        **{"TP": 3, "IDTP": 3, "MT": 1},
    }


def test_a_track_with_an_id_switch_halfway_has_the_computed_scores():
    results = [detection([MASK, MASK, None, None]), detection([None, None, MASK, MASK])]
    found = of_person([track(MASK, MASK, MASK, MASK)], results)
    assert (found["DetA"], found["LocA"]) == (1.0, 1.0)
    # each of the four masks: its two tracks share 2 frames of 4 + 2 - 2
    assert found["AssA"] == pytest.approx(0.5)
    assert (found["AssRe"], found["AssPr"]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert found["HOTA"] == pytest.approx(np.sqrt(0.5))
    assert (found["IDTP"], found["IDFN"], found["IDFP"]) == (2, 2, 2)
    assert found["IDF1"] == found["IDR"] == found["IDP"] == pytest.approx(0.5)
    assert (found["IDSW"], found["Frag"]) == (1, 0)
    assert found["MOTA"] == found["sMOTA"] == pytest.approx(3 / 4)


def test_hota_averages_over_the_iou_thresholds():
    half = rle(0, 0, 50, 100)  # IoU .5: a match at 10 of the 19 alphas
    found = evaluate_tracking(
        ground_truth([track(MASK, MASK)]), [detection([half, half])], threshold=0.5
    )
    assert found["per_class"]["person"]["HOTA"] == pytest.approx(10 / 19)
    assert found["curves"]["person"]["HOTA"] == [1.0] * 10 + [0.0] * 9
    assert found["curves"]["person"]["alpha"] == pytest.approx(np.linspace(0.05, 0.95, 19))
    # where nothing matches, trackeval sets LocA to 1
    assert found["per_class"]["person"]["LocA"] == pytest.approx((10 * 0.5 + 9) / 19)
    assert found["per_class"]["person"]["MOTP"] == pytest.approx(0.5)
    assert found["per_class"]["person"]["sMOTA"] == pytest.approx(0.5)
    assert len(ALPHAS) == 19


def test_false_negatives_and_false_positives_are_counted():
    results = [detection([MASK, None, None, None]), detection([None, ELSEWHERE, None, None])]
    found = of_person([track(MASK, MASK, MASK, MASK)], results)
    assert (found["TP"], found["FN"], found["FP"]) == (1, 3, 1)
    assert found["DetA"] == pytest.approx(1 / 5)
    assert (found["DetRe"], found["DetPr"]) == (pytest.approx(1 / 4), pytest.approx(1 / 2))
    assert found["MOTA"] == pytest.approx((1 - 1) / 4)
    assert found["IDF1"] == pytest.approx(1 / (1 + 0.5 * 3 + 0.5 * 1))


def test_tracks_are_classified_as_mostly_tracked_partly_tracked_or_mostly_lost():
    def shown(frames):
        return [MASK] * frames + [None] * (10 - frames)

    def share_found(frames):
        found = of_person([track(*[MASK] * 10)], [detection(shown(frames))], length=10)
        return found["MT"], found["PT"], found["ML"]

    assert share_found(9) == (1, 0, 0)
    assert share_found(8) == (0, 1, 0)  # exactly 80 % is not "mostly"
    assert share_found(2) == (0, 1, 0)
    assert share_found(1) == (0, 0, 1)


def test_a_fragmentation_is_a_gap_in_a_frame_with_detections():
    paused = detection([MASK, None, MASK, MASK])
    gts = [track(MASK, MASK, MASK, MASK)]
    elsewhere = detection([None, ELSEWHERE, None, None])
    assert of_person(gts, [paused, elsewhere])["Frag"] == 1
    # a frame without any detection does not end a match in trackeval, so neither here
    assert of_person(gts, [paused])["Frag"] == 0


def test_a_match_continues_although_another_detection_fits_better():
    worse, better = rle(0, 0, 100, 60), MASK
    results = [detection([MASK, worse, worse]), detection([None, better, better])]
    found = of_person([track(MASK, MASK, MASK)], results, length=3)
    assert (found["IDSW"], found["FP"]) == (0, 2)
    assert found["MOTP"] == pytest.approx((1 + 0.6 + 0.6) / 3)


def test_detections_may_overlap_and_each_counts():
    found = of_person([track(MASK, MASK)], [detection([MASK, MASK])] * 2, length=2)
    assert (found["TP"], found["FP"]) == (2, 2)


def test_an_empty_mask_is_an_absent_object():
    empty = rle(0, 0, 0, 0)
    found = of_person([track(MASK, empty)], [detection([MASK, empty])], length=2)
    assert (found["TP"], found["FN"], found["FP"]) == (1, 0, 0)
    assert found["HOTA"] == pytest.approx(1.0)


# Identity switches


def test_id_switches_are_listed_with_old_and_new_id_and_frame():
    results = [
        detection([ELSEWHERE, None, None, None, None]),
        detection([MASK, MASK, None, None, None]),
        detection([None, None, None, MASK, None]),
        detection([None, None, None, None, MASK]),
    ]
    gt_track = {**track(*[MASK] * 5), "id": 70}
    (video,) = VideoSet(ground_truth([gt_track], length=5), results)
    assert id_switches(video, 1) == [
        IdSwitch(1, 1, ground_truth_id=70, frame=3, previous_frame=1, before=1, after=2),
        IdSwitch(1, 1, ground_truth_id=70, frame=4, previous_frame=3, before=2, after=3),
    ]
    assert id_switches(video, 2) == []


@pytest.mark.parametrize("name", ["mots", "youtube_vis"])
def test_the_list_of_id_switches_has_the_counted_length(name):
    gt, results, expected = load_frozen(name)
    categories = {category["id"]: category["name"] for category in gt["categories"]}
    for category, label in categories.items():
        listed = sum(len(id_switches(video, category)) for video in VideoSet(gt, results))
        assert listed == expected["per_class"][label]["IDSW"]


# Ignore regions


def in_crowd(mask, crowd, **crowd_options):
    """False positives next to a perfect track, in a frame with an ignore region."""
    gts = [track(MASK), {**track(crowd), "iscrowd": 1, **crowd_options}]
    found = of_person(gts, [detection([MASK]), detection([mask])], length=1)
    assert (found["TP"], found["FN"]) == (1, 0)
    return found["FP"]


def test_a_false_positive_more_than_half_inside_a_crowd_is_ignored():
    assert in_crowd(rle(200, 200, 300, 300), crowd=rle(200, 200, 300, 251)) == 0
    assert in_crowd(rle(200, 200, 300, 300), crowd=rle(200, 200, 300, 250)) == 1


def test_a_crowd_of_any_class_is_an_ignore_region():
    assert in_crowd(ELSEWHERE, crowd=ELSEWHERE, category_id=2) == 0


def test_several_crowds_form_one_ignore_region():
    halves = [rle(200, 200, 300, 240), rle(200, 240, 300, 280)]
    gts = [track(MASK), *({**track(half), "iscrowd": 1} for half in halves)]
    found = of_person(gts, [detection([MASK]), detection([ELSEWHERE])], length=1)
    assert found["FP"] == 0


def test_a_match_inside_a_crowd_still_counts():
    gts = [track(MASK), {**track(MASK), "iscrowd": 1}]
    assert of_person(gts, [detection([MASK])], length=1)["TP"] == 1


def test_a_track_counts_only_in_the_frames_that_are_not_ignored():
    gts = [track(MASK, MASK), {**track(ELSEWHERE, None), "iscrowd": 1}]
    results = [detection([MASK, MASK]), detection([ELSEWHERE, ELSEWHERE])]
    found = of_person(gts, results, length=2)
    assert (found["FP"], found["IDFP"]) == (1, 1)
    assert found["DetPr"] == pytest.approx(2 / 3)


# Classes, videos, thresholds


def test_classes_are_averaged_or_pooled():
    gt = ground_truth([track(MASK, MASK), {**track(MASK, None), "category_id": 2}])
    found = evaluate_tracking(gt, [detection([MASK, MASK])])
    assert (found["per_class"]["person"]["HOTA"], found["per_class"]["dog"]["HOTA"]) == (1.0, 0.0)
    assert found["class_averaged"]["DetA"] == pytest.approx(1 / 2)
    assert found["detection_averaged"]["DetA"] == pytest.approx(2 / 3)
    assert found["class_averaged"]["TP"] == found["detection_averaged"]["TP"] == 2


def test_a_class_that_never_occurs_is_undefined_and_not_averaged():
    found = evaluate_tracking(ground_truth([track(MASK, MASK)]), [detection([MASK, MASK])])
    assert found["per_class"]["dog"] is None
    assert found["class_averaged"]["HOTA"] == pytest.approx(1.0)
    assert set(found["curves"]) == {"person"}


def test_a_class_without_ground_truth_counts_as_false_positives():
    results = [detection([MASK, MASK]), detection([MASK, None], category_id=2)]
    found = evaluate_tracking(ground_truth([track(MASK, MASK)]), results)
    assert found["per_class"]["dog"]["FP"] == 1
    assert found["class_averaged"]["HOTA"] == pytest.approx(1 / 2)


def test_classes_can_be_excluded():
    gt = ground_truth([track(MASK, MASK)])
    wrong_class = [detection([MASK, MASK], category_id=2)]
    assert evaluate_tracking(gt, wrong_class)["detection_averaged"]["TP"] == 0
    found = evaluate_tracking(gt, wrong_class, class_agnostic=True)
    assert found["per_class"] == {"all classes": found["detection_averaged"]}
    assert found["detection_averaged"]["HOTA"] == pytest.approx(1.0)


def test_tracks_below_the_score_threshold_are_ignored():
    results = [detection([MASK, MASK], score=0.5), detection([ELSEWHERE, ELSEWHERE], score=0.49)]
    gt = [track(MASK, MASK)]
    assert of_person(gt, results, length=2)["FP"] == 2
    assert of_person(gt, results, length=2, threshold=0.5)["HOTA"] == pytest.approx(1.0)
    everything_gone = of_person(gt, results, length=2, threshold=0.6)
    assert (everything_gone["HOTA"], everything_gone["FN"], everything_gone["ML"]) == (0.0, 2, 1)


def test_videos_without_objects_or_detections_have_no_row():
    gt = ground_truth([track(MASK, MASK)], videos=(3, 1, 2))
    results = [detection([MASK, MASK]), detection([MASK, None], video_id=3)]
    rows = evaluate_tracking(gt, results)["per_video"]
    assert [(row["video_id"], row["TP"], row["FP"]) for row in rows] == [(1, 2, 0), (3, 0, 1)]


def test_a_set_without_anything_to_evaluate_is_refused():
    low = [detection([MASK, MASK], score=0.1)]
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate_tracking(ground_truth([]), low, threshold=0.5)
    with pytest.raises(InputError, match="threshold nan"):
        evaluate_tracking(ground_truth([]), low, threshold=float("nan"))


# Invariances


@pytest.mark.parametrize("name", ["mots", "youtube_vis"])
def test_metrics_do_not_depend_on_track_order_or_ids(name):
    gt, results, _ = load_frozen(name)
    before = evaluate_tracking(gt, results)
    shuffle = random.Random(0).shuffle
    numbers = list(range(len(gt["annotations"])))
    shuffle(numbers)
    annotations = [
        {**annotation, "id": 100 + number, "category_id": 7 - annotation["category_id"]}
        for annotation, number in zip(gt["annotations"], numbers, strict=True)
    ]
    categories = [{**category, "id": 7 - category["id"]} for category in gt["categories"]]
    results = [{**entry, "category_id": 7 - entry["category_id"]} for entry in results]
    for entries in (annotations, results):
        shuffle(entries)
    after = evaluate_tracking({**gt, "annotations": annotations, "categories": categories}, results)
    for category, scores in before["per_class"].items():
        assert_same(after["per_class"][category], scores)


@settings(max_examples=15, deadline=None)
@given(frame=st.integers(1, 11))
def test_swapped_identities_cost_association_but_not_detection(frame):
    """Two perfect tracks swap their masks from ``frame`` on."""
    gt, _, _ = load_frozen("youtube_vis")
    shown = [t for t in gt["annotations"] if t["video_id"] == 1 and t["category_id"] == 1][:2]
    first, second = (track["segmentations"] for track in shown)
    gt = {**gt, "annotations": shown}
    perfect = [detection(masks) for masks in (first, second)]
    swapped = [
        detection(first[:frame] + second[frame:]),
        detection(second[:frame] + first[frame:]),
    ]
    before, after = (evaluate_tracking(gt, found)["class_averaged"] for found in (perfect, swapped))
    assert before["HOTA"] == before["AssA"] == before["IDF1"] == pytest.approx(1.0)
    assert after["DetA"] == before["DetA"] == pytest.approx(1.0)
    assert after["AssA"] < 1
    assert after["IDF1"] < 1
    assert after["TP"] == before["TP"]


# On the command line


@pytest.fixture
def files(tmp_path):
    gt, results, expected = load_frozen("mots")
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path, expected


def test_eval_tracking_prints_and_writes(files, capsys):
    folder, expected = files
    words = [folder / "gt.json", folder / "results.json", "--json", folder / "scores.json"]
    assert cli.main(["eval-tracking", *map(str, words), "--per-video"]) == 0
    written = json.loads((folder / "scores.json").read_text())
    assert_same(written["class_averaged"], expected["class_averaged"])
    printed = capsys.readouterr().out
    assert f"3 videos, checksum {written['videos']['checksum']}" in printed
    rows = [line.split("│") for line in printed.splitlines()]
    names = {row[1].strip() for row in rows if len(row) > 2}
    person_rows = [row[2:-1] for row in rows if len(row) > 2 and row[1].strip() == "person"]
    person = expected["per_class"]["person"]
    assert [cell.strip() for cell in person_rows[2]] == [
        *(f"{100 * person[name]:.1f}" for name in ("MOTA", "sMOTA", "MOTP")),
        *(str(int(person[name])) for name in ("TP", "FN", "FP")),
    ]  # the third of the four tables of classes
    assert {"car", "mean of classes", "all pooled", "0000", "0001", "0002"} < names


def test_eval_tracking_refuses_bad_input_in_one_line(files, capsys):
    folder, _ = files
    words = ["eval-tracking", str(folder / "gt.json"), str(folder / "missing.json")]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
