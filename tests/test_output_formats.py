"""Result formats of ``track --save``, read back by the tools they are meant for."""

import json

import numpy as np
import pytest
import supervision as sv
from pycocotools.coco import COCO

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.mots import read_mots_text
from queryinst_vis.formats.single_video import mots_numbers, write_mots_video
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.formats.track_tables import PATH_POINTS, track_rows
from queryinst_vis.masks import decode_rle, encode_rle
from tests.tiny import CLASSES, HEIGHT, WIDTH, rectangles
from tests.tracking_support import FRAMES, rectangle

# Results and data sets


def test_results_with_ids_are_evaluated(tracked):
    entries = json.loads((tracked("json") / "results.json").read_text())
    assert [entry["track_id"] for entry in entries] == [0, 1]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    size = {"width": WIDTH, "height": HEIGHT}
    gt = {
        "videos": [
            {"id": 1, "length": FRAMES, "file_names": [f"c/{i}.jpg" for i in range(FRAMES)], **size}
        ],
        "categories": categories,
        "annotations": [
            {
                "id": entry["track_id"] + 1,
                "video_id": 1,
                "category_id": entry["category_id"],
                "segmentations": entry["segmentations"],
                "bboxes": [None if s is None else [0, 0, 1, 1] for s in entry["segmentations"]],
                "areas": [None if s is None else 1 for s in entry["segmentations"]],
                "iscrowd": 0,
                **size,
            }
            for entry in entries
        ],
    }
    assert evaluate_youtube_vis(gt, entries)["AP"] == pytest.approx(1)


def test_saved_mots_text_is_read_back(tracked):
    lines = list(read_mots_text(tracked("mots") / "mots" / "clip.txt", (HEIGHT, WIDTH)))
    assert len(lines) == 2 * FRAMES - 4
    assert {(line.object_id, line.label) for line in lines} == {(3001, 3), (4001, 4)}
    assert [line.frame for line in lines if line.label == 4] == list(range(5, FRAMES + 1))


def test_mots_class_numbers_are_the_benchmarks_then_the_next_free_ones():
    names = ["dog", "Person", "cat", "car", "a", "b", "c", "d", "e", "f"]
    assert mots_numbers(names) == dict(enumerate([3, 2, 4, 1, 5, 6, 7, 8, 9, 11]))
    assert mots_numbers(["dog", "cat"], {"cat": 3}) == {0: 4, 1: 3}
    assert mots_numbers(["person", "dog"], {"dog": 2}) == {0: 3, 1: 2}, "chosen ones come first"
    for chosen, message in (
        ({"dog": 10}, "ignore regions"),
        ({"dog": 5, "cat": 5}, "both class 5"),
    ):
        with pytest.raises(InputError, match=message):
            mots_numbers(["dog", "cat"], chosen)


def test_mots_masks_are_disjoint_and_lost_pixels_are_counted(tmp_path):
    left, all_of_it = rectangle(0, 0, 20, 20), rectangle(0, 0, 40, 20)
    with TrackStore() as tracks:
        rles = [encode_rle(all_of_it), encode_rle(left)]
        tracks.add((HEIGHT, WIDTH), [4, 9], [0.5, 0.8], [0, 0], [(0, 0, 1, 1)] * 2, rles)
        losses = write_mots_video(tmp_path / "a.txt", tracks, VideoInfo("a", 10, ["person"]))
    masks = {line.object_id: decode_rle(line.mask) for line in read_mots_text(tmp_path / "a.txt")}
    np.testing.assert_array_equal(masks[2002], left)
    np.testing.assert_array_equal(masks[2001], all_of_it & ~left)
    assert (losses.cut, losses.hidden, losses.tracks) == (1, 0, 0)


def test_coco_video_is_read_by_pycocotools_and_supervision(tracked, capsys):
    path = tracked("coco-video") / "coco_video.json"
    coco = COCO(path)
    assert len(coco.getImgIds()) == FRAMES
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == CLASSES
    last = coco.loadAnns(coco.getAnnIds(imgIds=FRAMES))
    assert [annotation["track_id"] for annotation in last] == [0, 1]
    for annotation, corners in zip(last, rectangles(FRAMES - 1), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), rectangle(*corners))
    read = sv.DetectionDataset.from_coco(str(path.parent), str(path), force_masks=False)
    assert read.classes == CLASSES and len(read) == FRAMES


# Tables


def test_csv_is_read_by_pandas(tracked):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    folder = tracked("csv")
    _check_tables(
        pandas.read_csv(folder / "tracks.csv"), pandas.read_csv(folder / "detections.csv")
    )


def test_parquet_is_read_by_pyarrow(tracked):
    pytest.importorskip("pandas", reason="pandas is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    folder = tracked("parquet")
    tables = [parquet.read_table(folder / f"{name}.parquet") for name in ("tracks", "detections")]
    _check_tables(*(table.to_pandas() for table in tables))


def _check_tables(tracks, detections):
    assert tracks["track_id"].tolist() == [0, 1]
    assert tracks["class_name"].tolist() == CLASSES
    assert tracks["frames"].tolist() == [FRAMES, FRAMES - 4]
    assert tracks["first_frame"].tolist() == [0, 4]
    assert tracks["last_seconds"].tolist() == pytest.approx([1.1, 1.1])
    x0, y0, x1, y1 = rectangles(0)[0]
    assert tracks["mean_speed"][0] == pytest.approx(30)  # three pixels a frame, ten frames a second
    assert tracks["mean_area"][0] == pytest.approx((x1 - x0) * (y1 - y0))
    assert json.loads(tracks["class_votes"][1]) == {"crate": FRAMES - 4}
    path = json.loads(tracks["path"][0])
    assert path[0] == [0, (x0 + x1) / 2, (y0 + y1) / 2] and len(path) == FRAMES
    assert len(detections) == 2 * FRAMES - 4
    assert detections["frame"].tolist()[-2:] == [FRAMES - 1] * 2
    assert detections["score"].tolist()[-2:] == pytest.approx([0.9, 0.6])


def test_the_path_of_a_long_track_is_subsampled_and_keeps_its_ends():
    mask = encode_rle(rectangle(0, 0, 4, 4))
    with TrackStore() as tracks:
        for frame in range(1000):
            box = (frame, 0, frame + 2, 2)
            tracks.add((HEIGHT, WIDTH), [7], [0.9], [0], [box], [mask], number=2 * frame)
        [row] = track_rows(tracks, VideoInfo("a", 10, ["person"]))
    path = json.loads(row["path"])
    assert len(path) == PATH_POINTS and path[0] == [0, 1, 1] and path[-1] == [1998, 1000, 1]
    assert row["mean_speed"] is None and row["first_seconds"] is None  # times are unknown


def test_tracks_beyond_the_ids_of_a_mots_class_are_left_out_and_counted(tmp_path):
    with TrackStore() as tracks:
        mask = encode_rle(np.ones((HEIGHT, WIDTH), dtype=bool))
        for number in range(1003):
            tracks.add((HEIGHT, WIDTH), [number], [0.9], [0], [[0, 0, WIDTH, HEIGHT]], [mask])
        losses = write_mots_video(tmp_path / "a.txt", tracks, VideoInfo("a", 10, ["car"]))
    ids = [line.object_id for line in read_mots_text(tmp_path / "a.txt")]
    assert ids == list(range(1001, 2000))
    assert "4 tracks" in str(losses)
