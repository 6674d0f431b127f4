"""Identities per object and objects per identity."""

import json
import random

import numpy as np
import pytest
from eval_cases import detection, ground_truth, rle
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.evaluation.clear import id_switches
from queryinst_vis.evaluation.coverage import COVERAGE_COUNTS, RATIOS, identity_coverage
from queryinst_vis.evaluation.report import print_tracking
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.formats.video_set import VideoSet

A, B, ELSEWHERE = rle(0, 0, 100, 100), rle(200, 0, 300, 100), rle(0, 300, 50, 400)
NAMES = (*COVERAGE_COUNTS, *RATIOS)


def track(*masks, **keys):
    return {"segmentations": list(masks), **keys}


def coverage(annotations, results, length, **options):
    """Objects, found, missed, identities, matched; identities per object, objects per identity."""
    gt = ground_truth(annotations, length=length)
    found = evaluate_tracking(gt, results, **options)["detection_averaged"]
    return [found[name] for name in NAMES]


# Exact cases


def test_perfect_tracks_have_one_identity_per_object():
    results = [detection([A, A, A]), detection([None, B, B])]
    assert coverage([track(A, A, A), track(None, B, B)], results, 3) == [2, 2, 0, 2, 2, 1.0, 1.0]


def test_an_object_with_three_identities_counts_three():
    results = [detection([A, None, None, None]), detection([None, A, None, None])]
    results += [detection([None, None, A, A]), detection([B, B, B, B])]
    annotations = [track(A, A, A, A), track(B, B, B, B)]
    # (3 + 1) identities of 2 objects; each identity has one object
    assert coverage(annotations, results, 4) == [2, 2, 0, 4, 4, 2.0, 1.0]


def test_an_identity_that_moves_to_another_object_counts_two_objects():
    annotations = [track(A, A, None, None), track(None, None, B, B)]
    assert coverage(annotations, [detection([A, A, B, B])], 4) == [2, 2, 0, 1, 1, 1.0, 2.0]


def test_swapped_identities_count_two_for_each_object():
    annotations = [track(A, A), track(B, B)]
    assert coverage(annotations, [detection([A, B]), detection([B, A])], 2)[-2:] == [2.0, 2.0]


def test_a_reappearing_identity_counts_once():
    results = [detection([A, None, A]), detection([None, A, None])]
    found = evaluate_tracking(ground_truth([track(A, A, A)], length=3), results)
    person = found["per_class"]["person"]
    assert (person["identities_per_object"], person["IDSW"]) == (2.0, 2)


def test_a_single_frame_counts_as_much_as_many():
    results = [detection([A] * 9 + [None]), detection([None] * 9 + [A])]
    assert coverage([track(*[A] * 10)], results, 10)[-2:] == [2.0, 1.0]


def test_a_match_needs_an_iou_of_a_half():
    half, less = rle(0, 0, 50, 100), rle(0, 0, 49, 100)
    assert coverage([track(A)], [detection([half])], 1) == [1, 1, 0, 1, 1, 1.0, 1.0]
    assert coverage([track(A)], [detection([less])], 1) == [1, 0, 1, 1, 0, None, None]


def test_missed_objects_and_false_identities_are_counted_and_not_averaged():
    results = [detection([A, A]), detection([ELSEWHERE, None])]
    assert coverage([track(A, A), track(B, B)], results, 2) == [2, 1, 1, 2, 1, 1.0, 1.0]


def test_a_simultaneous_second_identity_on_an_object_is_a_false_positive():
    results = [detection([A, A]), detection([A, A])]
    assert coverage([track(A, A)], results, 2) == [1, 1, 0, 2, 1, 1.0, 1.0]


def test_ratios_without_matches_are_undefined():
    found = coverage([track(A)], [detection([A], score=0.1)], 1, threshold=0.5)
    assert found == [1, 0, 1, 0, 0, None, None]


def test_crowds_and_tracks_inside_them_are_ignored():
    annotations = [track(A), track(B, iscrowd=1)]
    assert coverage(annotations, [detection([A]), detection([B])], 1) == [1, 1, 0, 1, 1, 1.0, 1.0]


# Videos and classes


def test_videos_are_pooled_by_objects_not_averaged():
    gt = ground_truth([track(A, A), track(B, B), track(A, A, video_id=2)], videos=(1, 2))
    results = [
        detection([A, A]),
        detection([B, B]),
        detection([A, None], video_id=2),
        detection([None, A], video_id=2),
    ]
    found = evaluate_tracking(gt, results)
    assert found["detection_averaged"]["identities_per_object"] == pytest.approx(4 / 3)
    assert [row["identities_per_object"] for row in found["per_video"]] == [1.0, 2.0]


def test_classes_without_a_match_are_excluded_from_the_class_mean():
    gt = ground_truth([track(A, A), track(B, B, category_id=2)])
    results = [detection([A, None]), detection([None, A])]
    found = evaluate_tracking(gt, results)
    assert found["per_class"]["dog"]["identities_per_object"] is None
    assert found["class_averaged"]["identities_per_object"] == 2.0
    assert found["class_averaged"]["objects_missed"] == 1


def test_matched_frames_are_counted_per_pair():
    results = [detection([ELSEWHERE, A, A, B]), detection([A, None, None, None])]
    annotations = [track(A, A, A, None, id=7), track(B, B, B, B, id=4)]
    (video,) = VideoSet(ground_truth(annotations, length=4), results)
    found = identity_coverage(video, 1)
    assert (found.ground_truth_ids, found.detection_ids) == ([7, 4], [0, 1])
    assert found.frames.tolist() == [[2, 1], [1, 0]]


# Properties


@st.composite
def shuffled_identities(draw):
    """Two objects of ten frames whose masks belong to any of four identities, or to none."""
    frames = [draw(st.permutations([0, 1, 2, 3]))[:2] for _ in range(10)]
    shown = [[draw(st.booleans()) for _ in range(2)] for _ in range(10)]
    results = [[None] * 10 for _ in range(4)]
    for frame, identities in enumerate(frames):
        for mask, identity, show in zip((A, B), identities, shown[frame], strict=True):
            results[identity][frame] = mask if show else None
    return results


@settings(max_examples=40, deadline=None)
@given(results=shuffled_identities(), seed=st.integers(0, 9))
def test_coverage_counts_equal_those_of_the_matched_pairs(results, seed):
    gt = ground_truth([track(*[A] * 10), track(*[B] * 10)], length=10)
    entries = [detection(masks) for masks in results]
    before = evaluate_tracking(gt, entries)["detection_averaged"]
    (video,) = VideoSet(gt, entries)
    pairs = identity_coverage(video, 1).frames
    # exact masks: a pair is matched where the identity has the object's mask
    expected = [[masks.count(mask) for masks in results] for mask in (A, B)]
    assert pairs.tolist() == expected
    matched = np.array(expected) > 0
    found, used = matched.any(axis=1).sum(), matched.any(axis=0).sum()
    assert (before["objects_found"], before["identities_matched"]) == (found, used)
    if found:
        assert before["identities_per_object"] == pytest.approx(matched.sum() / found)
        assert before["objects_per_identity"] == pytest.approx(matched.sum() / used)
    for switches, identities in zip(_switches_by_object(video), matched.sum(axis=1), strict=True):
        assert switches >= max(identities - 1, 0)
    assert before["TP"] == pairs.sum()

    random.Random(seed).shuffle(entries)
    random.Random(seed).shuffle(gt["annotations"])
    after = evaluate_tracking(gt, entries)["detection_averaged"]
    assert [after[name] for name in NAMES] == [before[name] for name in NAMES]


def _switches_by_object(video):
    switches = [switch.ground_truth_id for switch in id_switches(video, 1)]
    return [switches.count(truth.id) for truth in video.ground_truth]


# The report


def test_the_report_has_a_table_of_classes_and_one_of_videos(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    gt = ground_truth([track(A, A), track(B, B)])
    found = evaluate_tracking(gt, [detection([A, None]), detection([None, A])])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    print_tracking(found, per_video=True)
    lines = [line.strip("│┃").split() for line in capsys.readouterr().out.splitlines()]
    rows = [" ".join(cell for cell in line if cell not in "│┃") for line in lines]
    heading = "identities objects found ids matched ids/object objects/id"
    assert rows[rows.index(heading) + 2] == "person 2 1 2 2 2.00 1.00"
    heading = "video objects found ids/object objects/id IDSW HOTA IDF1"
    hota, idf1 = (f"{100 * found['per_video'][0][name]:.1f}" for name in ("HOTA", "IDF1"))
    assert rows[rows.index(heading) + 2] == f"video 1 2 1 2.00 1.00 1 {hota} {idf1}"


def test_undefined_values_are_printed_as_dashes(capsys):
    found = evaluate_tracking(ground_truth([track(A, A)]), [detection([B, B])])
    print_tracking(found)
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row[1:-1]] for row in rows]
    assert ["person", "1", "0", "1", "0", "-", "-"] in cells
