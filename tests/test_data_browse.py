"""``data browse``: frames, ground truth and results as a contact sheet or a video."""

import cv2
import numpy as np
import pytest
from data_support import HEIGHT, WIDTH, coco_content, run_cli, video_content, write_json, write_set

from queryinst_vis.errors import InputError
from queryinst_vis.video.reader import VideoReader
from queryinst_vis.visualization.contact_sheet import ContactSheet


@pytest.fixture
def video_set(tmp_path):
    """``(annotation path, image folder)`` of one video of four frames."""
    return write_set(tmp_path, video_content())


def browse(video_set, out, *words):
    path, images = video_set
    return run_cli("data", "browse", path, "--images", images, "--out", out, *words)


def test_a_sheet_has_a_row_for_each_video(video_set, tmp_path, capsys):
    out = tmp_path / "out" / "sheet.png"
    assert browse(video_set, out, "--columns", "2") == 0
    assert f"wrote {out}: 2 frames, 1 of 1 videos" in capsys.readouterr().out
    sheet = cv2.imread(str(out))
    assert sheet.shape == (HEIGHT + 18 + 8, 2 * (WIDTH + 4) + 4, 3)


def test_every_frame_is_shown_in_rows_at_reduced_size(video_set, tmp_path):
    out = tmp_path / "sheet.jpg"
    assert browse(video_set, out, "--columns", "3", "--every", "1", "--width", "40") == 0
    sheet = cv2.imread(str(out))
    assert sheet.shape == (2 * (24 + 18 + 4) + 4, 3 * 44 + 4, 3)


def test_masks_are_drawn_on_the_objects(tmp_path):
    content = video_content()
    path, images = write_set(tmp_path, content)
    content["annotations"] = []
    bare = write_json(content, tmp_path / "bare.json")
    sheets = []
    for annotations, name in ((path, "masks.png"), (bare, "bare.png")):
        assert browse((annotations, images), tmp_path / name, "--columns", "1") == 0
        sheets.append(cv2.imread(str(tmp_path / name)).astype(int))
    changed = (sheets[0] != sheets[1]).any(axis=2)[4 : 4 + HEIGHT, 4 : 4 + WIDTH]
    assert changed[8:18, 8:22].mean() > 0.9  # inside the car's mask of the first frame
    assert not changed[30:, 50:].any()


def test_an_mp4_has_all_frames_with_a_caption(video_set, tmp_path):
    assert browse(video_set, tmp_path / "out.mp4", "--fps", "10") == 0
    reader = VideoReader(tmp_path / "out.mp4")
    assert (len(reader), reader.fps, reader.width, reader.height) == (4, 10, WIDTH, HEIGHT + 18)


def results_for(content, **changes):
    first = content["annotations"][0]
    result = {"video_id": 12, "category_id": 9, "segmentations": first["segmentations"]}
    return [{**result, "score": 0.9, **changes}]


def test_only_results_above_the_threshold_are_drawn(video_set, tmp_path):
    sheets = []
    for score in (0.9, 0.2):
        results = write_json(results_for(video_content(), score=score), tmp_path / "results.json")
        assert browse(video_set, tmp_path / "s.png", "--results", results) == 0
        sheets.append(cv2.imread(str(tmp_path / "s.png")))
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": 5}, "entry 0: video_id 5 is not in the data set; 'queryinst-vis check-subm"),
        ({"segmentations": [None]}, "entry 0, video 12 (v12): `segmentations` must have 4 entries"),
    ],
)
def test_results_that_do_not_match_the_set_are_not_drawn(
    changes, message, video_set, tmp_path, capsys
):
    results = write_json(results_for(video_content(), **changes), tmp_path / "results.json")
    assert browse(video_set, tmp_path / "s.png", "--results", results) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s.png").exists()


def test_browse_shows_the_selected_or_the_first_images(tmp_path, capsys):
    image_set = write_set(tmp_path, coco_content())
    assert browse(image_set, tmp_path / "one.png", "--video", "b.jpg") == 0
    assert "1 frames, 1 of 2 images" in capsys.readouterr().out
    assert browse(image_set, tmp_path / "two.png", "--limit", "1") == 0
    assert "1 frames, 1 of 2 images" in capsys.readouterr().out


def test_bad_input_of_browse_is_refused(video_set, tmp_path, capsys):
    assert browse(video_set, tmp_path / "out.gif") == 2
    assert "expected the name of a .png, .jpg or .mp4" in capsys.readouterr().err
    (video_set[1] / "v12" / "00000.jpg").unlink()
    assert browse(video_set, tmp_path / "out.mp4") == 2
    assert "00000.jpg: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
    empty = write_json(
        {**video_content(), "videos": [], "annotations": []}, tmp_path / "empty.json"
    )
    assert browse((empty, video_set[1]), tmp_path / "out.mp4") == 2
    assert f"{empty}: contains no videos" in capsys.readouterr().err


def test_an_empty_or_too_tall_sheet_is_refused(tmp_path):
    sheet = ContactSheet(columns=1)
    with pytest.raises(InputError, match="no image to show"):
        sheet.write(tmp_path / "sheet.png")
    tall = np.zeros((30_000, 1, 3), np.uint8)
    for _ in range(3):
        sheet.add(tall, "")
    with pytest.raises(InputError, match="show fewer videos"):
        sheet.write(tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []
