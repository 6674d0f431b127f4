"""``data stats``: counts, sizes, motion and overlap of a set."""

import json

import cv2
import numpy as np
import pytest
from data_support import coco_content, run_cli, summary_of, video_content, write_json
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from queryinst_vis.data.tools.statistics import SIZE_BOUNDS, overlap_rate
from queryinst_vis.evaluation.youtube_vis import AREA_RANGES


def test_stats_of_a_small_video_equal_a_count_by_hand():
    content = video_content()  # a 20 x 15 car moves right by 10 per frame; a dog in 2 of 4 frames
    content["annotations"].append({**content["annotations"][1], "id": 99, "iscrowd": 1})
    numbers = summary_of(content)
    assert numbers["classes"] == {
        "car": {"tracks": 1, "masks": 4, "videos": 1},
        "dog": {"tracks": 1, "masks": 2, "videos": 1},
    }
    counted = ("videos", "frames", "tracks", "masks", "entries", "exits", "gaps")
    assert [numbers[key] for key in counted] == [1, 4, 2, 6, 1, 1, 0]
    assert numbers["sizes"] == {"80x48": 1}
    assert numbers["track_length"] == {"min": 2, "median": 3, "mean": 3, "max": 4}
    assert numbers["objects_per_frame"]["mean"] == 1.5
    assert numbers["motion"]["max"] == pytest.approx(10 / np.sqrt(300))
    assert numbers["motion"]["min"] == 0  # the dog stays
    assert (numbers["small"], numbers["medium"], numbers["large"]) == (2, 0, 0)
    assert numbers["mask_side"]["max"] == pytest.approx(20)


def test_a_reappearing_track_has_a_gap_and_no_motion_across_it():
    content = video_content()
    for key in ("segmentations", "bboxes"):
        content["annotations"][0][key][1:3] = [None, None]
    numbers = summary_of(content)
    assert numbers["gaps"] == 1
    assert numbers["motion"] == {"min": 0, "median": 0, "mean": 0, "max": 0}  # the dog's


def test_stats_count_an_image_as_a_video_of_one_frame():
    numbers = summary_of(coco_content())
    assert (numbers["videos"], numbers["frames"], numbers["tracks"]) == (2, 2, 2)
    assert numbers["motion"] is None


def test_stats_of_a_set_without_annotations_are_zero():
    content = video_content()
    content["annotations"] = []
    numbers = summary_of(content)
    assert (numbers["tracks"], numbers["track_length"], numbers["classes"]) == (0, None, {})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), min_size=1, max_size=6
    )
)
def test_the_overlap_rate_equals_a_pixel_count(boxes):
    painted = np.zeros((40, 40), dtype=int)
    for x, y, width, height in boxes:
        painted[y : y + height, x : x + width] += 1
    expected = (painted > 1).sum() / (painted > 0).sum()
    assert overlap_rate(np.array(boxes, dtype=float)) == pytest.approx(expected)


def test_object_size_bounds_equal_those_of_the_metrics():
    bounds = [AREA_RANGES[name][1] for name in ("small", "medium")]
    assert SIZE_BOUNDS["video"] == tuple(bounds)
    coco = dict(zip(Params("segm").areaRngLbl, Params("segm").areaRng, strict=True))
    assert SIZE_BOUNDS["image"] == (coco["small"][1], coco["medium"][1])


def test_stats_prints_writes_and_draws(tmp_path, capsys):
    path = write_json(video_content(), tmp_path / "set.json")
    words = ["--json", tmp_path / "stats.json", "--plots", tmp_path / "plots"]
    assert run_cli("data", "stats", path, *words) == 0
    printed = capsys.readouterr().out
    assert "car" in printed
    assert "overlap rate" in printed
    assert json.loads((tmp_path / "stats.json").read_text()) == summary_of(video_content())
    drawn = {file.stem for file in (tmp_path / "plots").glob("*.png")}
    lengths = {"video_lengths", "track_lengths", "motion"}
    assert drawn == lengths | {"classes", "sizes", "objects", "occlusion"}
    assert all(cv2.imread(str(tmp_path / "plots" / f"{name}.png")).std() > 1 for name in drawn)


def test_stats_refuses_missing_annotations_and_broken_masks(tmp_path, capsys):
    content = video_content()
    content["annotations"][0]["segmentations"][2] = {"size": [1, 1], "counts": "1"}
    assert run_cli("data", "stats", write_json(content, tmp_path / "set.json")) == 2
    assert "video 12 (v12), annotation 31, frame 2" in capsys.readouterr().err
    del content["annotations"]
    assert run_cli("data", "stats", write_json(content, tmp_path / "set.json")) == 2
    assert "the file has no annotations" in capsys.readouterr().err
