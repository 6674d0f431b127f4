"""Result files: lossless round trips, and atomic writes."""

import json
import zipfile

import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.predictions import read_results
from queryinst_vis.formats.results import (
    coco_entries,
    stream_youtube_vis_entries,
    write_results,
    write_zip,
    youtube_vis_entries,
)
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.masks import decode_rle, encode_rle

SIZE = (40, 60)
BOXES = [[10.0, 5.0, 30.0, 25.0], [-4.0, 10.0, 20.0, 30.5], [40.0, 20.0, 56.0, 36.0]]
RECTANGLES = [(10, 5, 30, 25), (0, 10, 20, 30), (40, 20, 56, 36)]


def rles(empty=False):
    masks = np.zeros((3, *SIZE), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, RECTANGLES, strict=True):
        mask[y0:y1, x0:x1] = not empty
    return [encode_rle(mask) for mask in masks]


def add(tracks, ids, scores=(0.75, 0.5, 0.25), labels=(0, 1, 2), empty=False):
    """Append a frame with three instances, or with none."""
    count = len(ids)
    tracks.add(SIZE, ids, scores[:count], labels[:count], BOXES[:count], rles(empty)[:count])


@pytest.fixture
def video():
    """Track 4 in frames 0 and 2, tracks 5 and 6 in frame 0, tracks 7 and 8 in frame 2."""
    with TrackStore() as tracks:
        add(tracks, [4, 5, 6])
        add(tracks, [])
        add(tracks, [7, 4, 8], scores=(0.5, 0.25, 0.125), labels=(1, 0, 0))
        yield tracks


def image_entries(category_ids, masks):
    return coco_entries(139, category_ids, [0, 1, 2], [0.75, 0.5, 0.25], BOXES, masks)


def test_each_track_is_one_entry_with_null_where_absent(video):
    entries = youtube_vis_entries(video, video_id=12, category_ids=[30, None, 10])
    assert [(e["video_id"], e["category_id"], e["score"]) for e in entries] == [
        (12, 30, 0.5),  # the mean of .75 and .25
        (12, 10, 0.25),
        (12, 30, 0.125),  # classes the data set lacks (tracks 5 and 7) are left out
    ]
    shown = [[mask is not None for mask in e["segmentations"]] for e in entries]
    assert shown == [[True, False, True], [True, False, False], [False, False, True]]
    mask = decode_rle(entries[0]["segmentations"][0])
    assert mask.shape == SIZE
    assert mask.sum() == 400 and mask[5:25, 10:30].all()


def test_masks_without_a_pixel_are_null_and_tracks_without_a_mask_left_out():
    with TrackStore() as tracks:
        add(tracks, [1, 2, 3], empty=True)
        assert youtube_vis_entries(tracks, 1, [1, 2, 3]) == []
        add(tracks, [1, 2, 3])
        entries = youtube_vis_entries(tracks, 1, [1, 2, 3])
    assert [e["segmentations"][0] for e in entries] == [None] * 3
    assert all(e["segmentations"][1] for e in entries)


def test_image_results_have_boxes_as_x_y_width_height():
    entries = image_entries([18, 1, None], rles())
    assert [(e["image_id"], e["category_id"], e["score"]) for e in entries] == [
        (139, 18, 0.75),
        (139, 1, 0.5),
    ]
    assert entries[0]["bbox"] == [10.0, 5.0, 20.0, 20.0]
    assert entries[1]["bbox"] == [-4.0, 10.0, 24.0, 20.5]  # as detected, beyond the image too
    assert decode_rle(entries[0]["segmentation"]).sum() == 400


def test_a_model_without_masks_writes_none():
    entries = image_entries([1, 2, 3], None)
    assert len(entries) == 3
    assert all("segmentation" not in entry for entry in entries)


def test_written_entries_are_read_back_identically(tmp_path, video):
    entries = youtube_vis_entries(video, 12, [30, 20, 10])
    path = tmp_path / "new folder" / "results.json"
    write_results(path, iter(entries))  # streamed
    assert json.loads(path.read_text()) == entries
    assert read_results(path) == entries


@pytest.mark.parametrize("category_ids", [[30, 20, 10], [30, None, 10], [None] * 3])
def test_streamed_masks_are_written_identically(tmp_path, category_ids):
    at_once, streamed = tmp_path / "at_once.json", tmp_path / "streamed.json"
    with TrackStore() as tracks:
        add(tracks, [4, 5, 6], empty=True)
        add(tracks, [])
        add(tracks, [7, 4, 8], scores=(0.5, 0.25, 0.125), labels=(1, 0, 0))
        add(tracks, [9, 8, 4], labels=(2, 2, 1), empty=True)  # track 9 never shows a pixel
        add(tracks, [])
        write_results(at_once, youtube_vis_entries(tracks, 12, category_ids))
        write_results(streamed, stream_youtube_vis_entries(tracks, 12, category_ids))
    assert streamed.read_bytes() == at_once.read_bytes()
    content = json.loads(streamed.read_text())
    assert at_once.read_text().splitlines()[1:-1] == [
        json.dumps(entry) + ("," if entry is not content[-1] else "") for entry in content
    ]


def test_no_detections_make_an_empty_list(tmp_path):
    write_results(tmp_path / "results.json", [])
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_a_zip_has_results_json_at_its_root(tmp_path):
    entries = image_entries([1, 2, 3], rles())
    write_results(tmp_path / "epoch12.json", entries)
    write_zip(tmp_path / "epoch12.json", tmp_path / "upload.zip")
    assert zipfile.ZipFile(tmp_path / "upload.zip").namelist() == ["results.json"]
    assert read_results(tmp_path / "upload.zip") == entries


def test_written_results_can_be_evaluated(tmp_path, video):
    entries = youtube_vis_entries(video, 12, [30, 20, 10])
    write_results(tmp_path / "results.json", entries)
    gt = {
        "videos": [{"id": 12, "height": SIZE[0], "width": SIZE[1], "length": 3}],
        "categories": [{"id": i, "name": str(i)} for i in (10, 20, 30)],
        "annotations": [{"id": k, **entry} for k, entry in enumerate(entries, start=1)],
    }
    assert evaluate_youtube_vis(gt, tmp_path / "results.json")["AP50"] == pytest.approx(1.0)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path):
    def failing():
        yield {"score": 1.0}
        raise RuntimeError("the model broke")

    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="the model broke"):
        write_results(path, failing())
    with pytest.raises(InputError, match="no such file, so it cannot be zipped"):
        write_zip(tmp_path / "missing.json", tmp_path / "upload.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "must be a list of predictions, is a dict"),
        ("[]", "the list is empty"),
        ('[{"category_id": 1, "score": 0.5}]', "entry 0: has neither `image_id` nor `video_id`"),
        ('[{"image_id": 1, "score": 0.5}]', "entry 0: has no `category_id`"),
        ('[{"image_id": 1, "category_id": 1, "score": NaN}]', "`score` must be a finite number"),
        ("[", "not readable as JSON"),
    ],
)
def test_faulty_result_files_are_refused(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"results {path}") as caught:
        read_results(path)
    assert message in str(caught.value)
