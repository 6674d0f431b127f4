"""The evaluation report: numbers of ``evaluation``, and clips that show the errors."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from eval_cases import HEIGHT, WIDTH, box_mask, detection, ground_truth, rle

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.coco import evaluate_coco
from queryinst_vis.evaluation.report import percent
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.report.clips import make_clip
from queryinst_vis.report.evaluation import write_evaluation_page
from tests.browser import open_page

A, B = rle(0, 0, 60, 50), rle(100, 100, 160, 150)
LENGTH = 4
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def files(tmp_path):
    """Two videos with images, perfect results, and results with an identity switch."""
    gt = ground_truth(
        [
            {"video_id": 1, "segmentations": [A] * LENGTH},
            {"video_id": 1, "segmentations": [B] * LENGTH, "category_id": 2},
            {"video_id": 2, "segmentations": [A] * LENGTH},
        ],
        length=LENGTH,
        videos=(1, 2),
        classes=(HOSTILE, "dog"),
    )
    for video in gt["videos"]:
        names = [f"{video['id']}/{k}.png" for k in range(LENGTH)]
        video["file_names"] = names
        (tmp_path / "frames" / str(video["id"])).mkdir(parents=True)
        for name in names:
            picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            cv2.imwrite(str(tmp_path / "frames" / name), picture)
    right = [
        detection([A] * LENGTH, 0.9),
        detection([B] * LENGTH, 0.8, category_id=2),
        detection([A] * LENGTH, 0.7, video_id=2),
    ]
    wrong = [
        detection([A, A, None, None], 0.9),
        detection([None, None, A, A], 0.6),
        detection([None, B, B, B], 0.8, category_id=2),
        detection([B] * LENGTH, 0.1),  # too weak to be shown
        detection([A] * LENGTH, 0.7, video_id=2),
    ]
    for name, content in {"gt": gt, "right": right, "wrong": wrong}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def write(files, *results, **options):
    out = files / "page.html"
    paths = [files / f"{name}.json" for name in results]
    write_evaluation_page(files / "gt.json", paths[0], out, *paths[1:], samples=50, **options)
    return out


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_report_numbers_equal_the_evaluation(files):
    html = write(files, "wrong").read_text()
    gt, results = files / "gt.json", files / "wrong.json"
    precision = evaluate_youtube_vis(gt, results)
    tracking = evaluate_tracking(gt, results, threshold=0.3)["class_averaged"]
    text = text_of(html)
    for name, value in {**precision, **tracking}.items():
        if name in ("AP", "AP50", "AR10", "HOTA", "IDF1"):
            assert f"{name}, % {percent(value)} " in text
    assert precision["AP"] < 1


def rows_of(chart):
    (rows,) = chart["datasets"].values()
    return rows


def test_charts_show_the_numbers_of_the_diagnosis(files):
    html = write(files, "wrong").read_text()
    charts = json.loads(re.search(r'id="page-charts">(.*?)</script>', html).group(1))
    causes = [row["error type"] for row in rows_of(charts["waterfall_0"])]
    assert causes[0] == "unmodified"
    assert "split identities" in causes
    classes = {row["class"] for row in rows_of(charts["class_precision_recall"])}
    assert classes == {HOSTILE, "dog"}


def test_two_results_are_compared_by_paired_bootstrap(files):
    html = write(files, "wrong", "right").read_text()
    text = text_of(html)
    assert "A is wrong.json, B is right.json" in text
    assert re.search(r"B is better than A by|no significant difference", text)
    assert "paired bootstrap" in text


def test_result_files_of_one_name_are_distinguished_by_folder(files):
    for folder in ("before", "after"):
        (files / folder).mkdir()
        (files / folder / "results.json").write_text((files / "right.json").read_text())
    text = text_of(write(files, "before/results", "after/results").read_text())
    assert "A is before/results.json, B is after/results.json" in text


def test_result_files_at_different_depths_are_distinguished_by_path(files):
    (files / "baseline").mkdir()
    (files / "baseline" / "right.json").write_text((files / "right.json").read_text())
    text = text_of(write(files, "right", "baseline/right").read_text())
    assert "B is baseline/right.json" in text


def test_a_file_is_not_compared_with_itself(files):
    with pytest.raises(InputError, match="is compared with itself"):
        write(files, "right", "right")


def test_one_video_has_no_intervals(files):
    gt = json.loads((files / "gt.json").read_text())
    gt["videos"], gt["annotations"] = gt["videos"][:1], gt["annotations"][:2]
    (files / "gt.json").write_text(json.dumps(gt))
    results = json.loads((files / "wrong.json").read_text())
    (files / "wrong.json").write_text(json.dumps([r for r in results if r["video_id"] == 1]))
    assert (
        "There are no intervals, since they need at least two videos"
        in write(files, "wrong").read_text()
    )


def test_without_images_the_page_explains_how_to_get_clips(files):
    assert (
        "run the command again with <code>--images DIR</code>" in write(files, "wrong").read_text()
    )


def test_a_missing_image_ends_in_one_line_and_leaves_no_page(files, capsys):
    (files / "frames" / "1" / "2.png").unlink()
    words = ["report", "gt.json", "wrong.json", "--out", "page.html", "--images", "frames"]
    words = [str(files / w) if "." in w or w == "frames" else w for w in words]
    assert cli.main(words) == 2
    assert "2.png" in capsys.readouterr().err.splitlines()[-1]
    assert not (files / "page.html").exists()


# Clips


def test_a_clip_names_the_errors_of_each_frame(files):
    video_set = VideoSet(files / "gt.json", files / "wrong.json")
    tracks = next(iter(video_set))
    del tracks.detections[3]
    clip = make_clip({"wrong": tracks}, {1: "person", 2: "dog"}, files / "frames")
    assert [frame.errors for frame in clip.frames] == [
        ["missed dog 2"],
        [],
        ["identity switch of person 1"],
        [],
    ]
    assert [frame.kind for frame in clip.frames] == ["missed", "", "switch", ""]
    assert clip.width == 2 * WIDTH


def test_a_clip_of_two_results_attributes_each_error(files):
    both = {
        name: next(iter(VideoSet(files / "gt.json", files / f"{name}.json")))
        for name in ("wrong", "right")
    }
    clip = make_clip(both, {1: "person", 2: "dog"}, files / "frames")
    assert clip.frames[2].errors == [
        "wrong: identity switch of person 1",
        *clip.frames[2].errors[1:],
    ]
    assert not any(error.startswith("right") for frame in clip.frames for error in frame.errors)
    assert clip.width == 3 * WIDTH


def test_a_clip_covers_the_part_of_a_long_video_with_most_errors(tmp_path):
    """Of a long video the clip shows the part with most errors."""
    length = 100
    gt = ground_truth([{"segmentations": [None] * 90 + [A] * 10}], length=length)
    gt["videos"][0]["file_names"] = [f"{k}.png" for k in range(length)]
    frame = box_mask(0, 0, 9, 9).astype(np.uint8)
    for name in gt["videos"][0]["file_names"]:
        cv2.imwrite(str(tmp_path / name), np.dstack([frame] * 3))
    (tracks,) = VideoSet(gt, [])
    clip = make_clip({"none": tracks}, {1: "person"}, tmp_path)
    assert [frame.number for frame in clip.frames] == list(range(40, 100))


# In a browser


def test_the_page_opens_from_disk_draws_its_charts_and_jumps_in_its_clips(files):
    out = write(files, "wrong", "right", images=files / "frames")
    size = {"width": 390, "height": 800}
    with open_page(out, viewport=size, color_scheme="dark") as page:
        page.locator(".chart svg.marks").nth(11).wait_for()
        clip = page.locator("figure[data-clip]").first
        clip.locator(".marks button").nth(2).click()
        clip.get_by_text("frame 2: wrong.json: ").wait_for()
        assert clip.locator("video").evaluate("video => video.currentTime") == pytest.approx(
            2.5 / 6, abs=0.01
        )
        assert page.locator("script", has_text="alert(1)").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


# Images


@pytest.fixture
def images(files):
    """The first frames of the videos as a COCO set, with results that lack the dog."""
    gt = json.loads((files / "gt.json").read_text())
    coco = {
        "images": [
            {"id": v["id"], "height": HEIGHT, "width": WIDTH, "file_name": v["file_names"][0]}
            for v in gt["videos"]
        ],
        "annotations": [
            {
                "id": a["id"],
                "image_id": a["video_id"],
                "category_id": a["category_id"],
                "iscrowd": 0,
                "segmentation": a["segmentations"][0],
                "area": 2500,
                "bbox": [0, 0, 60, 50],
            }
            for a in gt["annotations"]
        ],
        "categories": gt["categories"],
    }
    results = [
        {"image_id": k, "category_id": 1, "score": 0.9, "segmentation": A, "bbox": [0, 0, 60, 50]}
        for k in (1, 2)
    ]
    (files / "gt.json").write_text(json.dumps(coco))
    (files / "coco.json").write_text(json.dumps(results))
    return files


def test_an_image_report_has_coco_scores_and_the_costliest_errors(images):
    html = write(images, "coco", images=images / "frames").read_text()
    text = text_of(html)
    expected = evaluate_coco(images / "gt.json", images / "coco.json")["segm"]
    assert f"AP, % {percent(expected['AP'])} " in text
    assert "2 images, checksum" in text and "HOTA" not in text
    assert "1/0.png: costs 50.0 AP" in text and "missed dog 2" in text
    assert html.count("data:image/jpeg") == 1


def test_two_results_on_images_are_compared(images):
    (images / "none.json").write_text("[]")
    text = text_of(write(images, "none", "coco").read_text())
    assert "B is better than A by 50.0 AP" in text or "no significant difference" in text
    assert " APs +" not in text


def test_a_report_on_boxes_only_is_refused(images, capsys):
    results = json.loads((images / "coco.json").read_text())
    for entry in results:
        del entry["segmentation"]
    (images / "coco.json").write_text(json.dumps(results))
    words = ["report", images / "gt.json", images / "coco.json", "--out", images / "page.html"]
    assert cli.main([str(word) for word in words]) == 2
    assert "needs masks in both files" in capsys.readouterr().err
