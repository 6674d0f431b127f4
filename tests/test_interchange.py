"""Result conversion between YouTube-VIS JSON, MOTS text and COCO-video JSON: round trips."""

import json
from pathlib import Path

import numpy as np
import pytest
from eval_cases import HEIGHT, WIDTH, detection

from queryinst_vis import cli
from queryinst_vis.data.convert.to_mots import convert_to_mots
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.predictions import read_results
from queryinst_vis.masks import decode_rle
from tests.interchange_support import (
    BOTH,
    CAR,
    LEFT,
    PERSON,
    RIGHT,
    line,
    lines_of,
    video,
    video_set,
)

DATA = Path(__file__).parent / "data"


# COCO-video


def test_coco_video_has_one_entry_per_mask(converted):
    gt = video_set(video(9, "b"), video(4, "a", numbers=(0, 1, 2)))
    results = [
        detection([LEFT, None, RIGHT], 0.75, video_id=4, category_id=CAR),
        detection([None, BOTH], 0.5, video_id=9, category_id=PERSON),
    ]
    entries = json.loads(converted(gt, results, "coco.json", to="coco-video").read_text())
    common = {"video_id": 4, "track_id": 0, "category_id": CAR, "score": 0.75}
    assert sorted(entries, key=lambda entry: entry["image_id"]) == [
        # video 9 stands first in the file and has images 1 and 2
        {
            **{"image_id": 2, "video_id": 9, "track_id": 1, "category_id": PERSON, "score": 0.5},
            **{"bbox": [0, 0, 200, 100], "segmentation": BOTH},
        },
        {"image_id": 3, **common, "bbox": [0, 0, 100, 100], "segmentation": LEFT},
        {"image_id": 5, **common, "bbox": [100, 0, 100, 100], "segmentation": RIGHT},
    ]


@pytest.mark.parametrize("name", ["mots", "youtube_vis"])
def test_youtube_vis_round_trips_through_coco_video(converted, name):
    content = json.loads((DATA / f"trackeval_{name}.json").read_text())
    coco = converted(content["gt"], content["results"], "coco.json", to="coco-video")
    assert all("image_id" in entry for entry in read_results(coco))
    assert read_results(converted(content["gt"], coco, "back.json")) == content["results"]


def test_coco_video_round_trips_through_youtube_vis(converted):
    content = json.loads((DATA / "trackeval_youtube_vis.json").read_text())
    coco = converted(content["gt"], content["results"], "coco.json", to="coco-video")
    back = converted(content["gt"], coco, "back.json")
    assert read_results(converted(content["gt"], back, "again.json", to="coco-video")) == (
        read_results(coco)
    )


def test_a_track_gets_its_mean_score_and_majority_class(converted):
    entries = [
        {"image_id": k, "track_id": 7, "category_id": c, "score": s, "segmentation": LEFT}
        for k, c, s in ((1, CAR, 0.1), (2, PERSON, 0.4), (3, PERSON, 0.7))
    ]
    gt = video_set(video(1, "a", numbers=(0, 1, 2, 3)))
    expected = detection([LEFT, LEFT, LEFT, None], pytest.approx(0.4), category_id=PERSON)
    assert read_results(converted(gt, entries, "results.json")) == [expected]


def test_equal_scores_keep_every_digit(converted):
    entries = [
        {"image_id": k, "track_id": 7, "category_id": CAR, "score": 0.1, "segmentation": LEFT}
        for k in (1, 2, 3)
    ]
    gt = video_set(video(1, "a", numbers=(0, 1, 2)))
    assert read_results(converted(gt, entries, "results.json"))[0]["score"] == 0.1


# MOTS


def test_mots_has_one_file_per_video_and_one_line_per_mask(converted):
    gt = video_set(video(1, "train/0002", numbers=(1, 6)), video(2, "train/0005"))
    results = [
        detection([LEFT, None], category_id=PERSON),
        detection([RIGHT, RIGHT], category_id=CAR),
        detection([None, LEFT], category_id=PERSON),
    ]
    folder = converted(gt, results, "mots")
    assert sorted(path.name for path in folder.iterdir()) == ["0002.txt", "0005.txt"]
    assert lines_of(folder, "0002") == [
        line(1, 1001, 1, RIGHT),
        line(1, 2001, 2, LEFT),
        line(6, 1001, 1, RIGHT),
        line(6, 2002, 2, LEFT),
    ]
    assert lines_of(folder, "0005") == []


def test_overlapping_pixels_go_to_the_track_with_the_higher_score(converted):
    results = [
        detection([BOTH, LEFT], 0.5, category_id=CAR),
        detection([LEFT, BOTH], 0.9, category_id=PERSON),
    ]
    folder = converted(video_set(video(1, "a")), results, "mots")
    # frame 0: the car keeps what the person leaves; frame 1: it vanishes
    assert lines_of(folder, "a") == [
        line(0, 1001, 1, RIGHT),
        line(0, 2001, 2, LEFT),
        line(1, 2001, 2, BOTH),
    ]


def test_pixels_lost_to_overlaps_are_reported(tmp_path, capsys):
    results = [detection([BOTH, LEFT], 0.5, category_id=CAR)]
    results.append(detection([LEFT, BOTH], 0.9, category_id=CAR))
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "gt.json").write_text(json.dumps(video_set(video(1, "a"))))
    words = [tmp_path / "results.json", tmp_path / "mots", "--gt", tmp_path / "gt.json"]
    assert cli.main(["convert-results", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert "1 masks lost pixels" in said
    assert "1 were lost completely" in said


def test_with_equal_scores_overlapping_pixels_go_to_the_first_track(converted):
    results = [detection([masks, None], 0.5, category_id=CAR) for masks in (LEFT, BOTH)]
    folder = converted(video_set(video(1, "a")), results, "mots")
    assert lines_of(folder, "a") == [line(0, 1001, 1, LEFT), line(0, 1002, 1, RIGHT)]


def test_youtube_vis_round_trips_through_mots_except_scores(converted):
    content = json.loads((DATA / "trackeval_mots.json").read_text())  # its masks are disjoint
    folder = converted(content["gt"], content["results"], "mots")
    back = read_results(converted(content["gt"], folder, "back.json"))
    assert {entry["score"] for entry in back} == {1.0}

    def without_order(entries):
        return sorted(
            json.dumps([entry["video_id"], entry["category_id"], entry["segmentations"]])
            for entry in entries
        )

    assert without_order(back) == without_order(content["results"])


def test_overlapping_results_become_disjoint_without_losing_other_pixels(converted):
    content = json.loads((DATA / "trackeval_youtube_vis.json").read_text())
    folder = converted(content["gt"], content["results"], "mots")
    back = read_results(converted(content["gt"], folder, "back.json"))

    def painted(entries):
        """How many tracks show each pixel, by video and frame."""
        counts = {}
        for entry in entries:
            for frame, mask in enumerate(entry["segmentations"]):
                if mask:
                    place = entry["video_id"], frame
                    counts[place] = counts.get(place, 0) + decode_rle(mask).astype(int)
        return counts

    before, after = painted(content["results"]), painted(back)
    assert max(count.max() for count in before.values()) > 1
    assert before.keys() == after.keys()
    for place, count in after.items():
        np.testing.assert_array_equal(count, before[place] > 0)


def test_mots_round_trips_through_youtube_vis_and_coco_video(converted, mots_folder):
    lines = [line(0, 1001, 1, LEFT), line(0, 2001, 2, RIGHT), line(1, 1001, 1, RIGHT)]
    source = mots_folder(a=lines, b=[line(1, 2001, 2, BOTH)])
    gt = video_set(video(1, "a"), video(2, "b"))
    for step in ("results.json", "coco.json"):
        middle = converted(gt, source, step, to="coco-video" if step == "coco.json" else None)
        folder = converted(gt, middle, f"mots_of_{middle.stem}")
        for name in ("a", "b"):
            assert lines_of(folder, name) == lines_of(source, name)


def test_mots_ids_need_not_follow_their_class(converted, mots_folder):
    source = mots_folder(a=[line(0, 7, 2, LEFT), line(1, 7, 2, RIGHT)])
    results = read_results(converted(video_set(video(1, "a")), source, "results.json"))
    assert results == [detection([LEFT, RIGHT], 1.0, category_id=PERSON)]


def test_sequences_and_frames_are_named_like_converted_ground_truth(converted, tmp_path):
    """Clips of one folder, file names without numbers, and frames without a folder."""
    videos = [
        video(1, "0002", numbers=(1, 6)),
        video(2, "0002", numbers=(11, 16)),
        video(3, "x") | {"file_names": ["x/img_a.jpg", "x/img_b.jpg"]},
        video(4, "y") | {"file_names": ["10.jpg", "20.jpg"]},
    ]
    tracks = [detection([LEFT, RIGHT], video_id=k, category_id=PERSON) for k in (1, 2, 3, 4)]
    annotations = [{**track, "id": k, "iscrowd": 0} for k, track in enumerate(tracks, start=1)]
    gt = video_set(*videos) | {"annotations": annotations}
    folder = converted(gt, tracks, "mots")
    convert_to_mots(tmp_path / "gt.json", tmp_path / "truth", form="txt")
    expected = tmp_path / "truth" / "instances_txt"
    names = sorted(path.stem for path in expected.iterdir())
    assert names == sorted(path.stem for path in folder.iterdir()) == ["0002-1", "0002-2", "4", "x"]
    for name in names:
        assert lines_of(folder, name) == lines_of(expected, name)


def test_frames_can_be_numbered_from_a_given_start(converted):
    gt = video_set(video(1, "a", numbers=(5, 10)))
    results = [detection([LEFT, LEFT], category_id=CAR)]
    folder = converted(gt, results, "kitti", first_frame=0)
    assert [text.split()[0] for text in lines_of(folder, "a")] == ["0", "1"]
    back = converted(gt, folder, "back.json", first_frame=0)
    assert read_results(back) == [detection([LEFT, LEFT], 1.0, category_id=CAR)]


def test_videos_without_file_names_are_named_by_id(converted):
    gt = video_set({"id": 8, "height": HEIGHT, "width": WIDTH, "length": 2})
    folder = converted(gt, [detection([None, LEFT], video_id=8, category_id=CAR)], "mots")
    assert lines_of(folder, "8") == [line(2, 1001, 1, LEFT)]


def test_class_numbers_can_be_chosen(converted):
    gt = video_set(video(1, "a"), classes=((1, "sedan"), (2, "dog")))
    results = [detection([LEFT, None]), detection([RIGHT, None], category_id=2)]
    folder = converted(gt, results, "mots", classes={"sedan": 1, "dog": 3})
    assert [text.split()[1:3] for text in lines_of(folder, "a")] == [["1001", "1"], ["3001", "3"]]
    back = converted(gt, folder, "back.json", classes={"sedan": 1, "dog": 3})
    assert [entry["category_id"] for entry in read_results(back)] == [1, 2]


def test_ap_is_unchanged_by_a_round_trip_through_coco_video(converted):
    """The same AP before and after COCO-video, from files as a user has them."""
    gt_path, results_path = (
        DATA / "ytvis_eval" / f"small_{part}.json" for part in ("gt", "results")
    )
    coco = converted(json.loads(gt_path.read_text()), results_path, "coco.json", to="coco-video")
    back = converted(json.loads(gt_path.read_text()), coco, "back.json")
    assert evaluate_youtube_vis(gt_path, back) == evaluate_youtube_vis(gt_path, results_path)


# On the command line


def test_convert_results_infers_formats_from_file_names(tmp_path, capsys):
    gt = DATA / "ytvis_eval" / "small_gt.json"
    numbers = {category["name"] for category in json.loads(gt.read_text())["categories"]}
    classes = [f"--class={name}={k}" for k, name in enumerate(sorted(numbers), start=1)]
    mots, back = tmp_path / "mots", tmp_path / "back.json"
    source = DATA / "ytvis_eval" / "small_results.json"
    for words in ([source, mots], [mots, back]):
        words = ["convert-results", *map(str, words), "--gt", str(gt), *classes]
        assert cli.main(words) == 0
    assert capsys.readouterr().out.count("wrote ") == 2
    assert len(read_results(back)) > 0


@pytest.mark.parametrize("text", ["dog", "dog=", "dog=0", "dog=x", "=3"])
def test_class_numbers_must_be_positive_integers(text, capsys):
    words = ["convert-results", "a", "b", "--gt", "c", "--class", text]
    assert cli.main(words) == 2
    assert "expected a class and its number" in capsys.readouterr().err
