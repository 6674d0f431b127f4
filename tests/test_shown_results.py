"""Display of detections: tables, plots, crops, and notebook cells."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from queryinst_vis import Detections, InputError
from queryinst_vis.drawing import track_colour
from queryinst_vis.inference.result import FrameResult, nothing_found

HEIGHT, WIDTH = 60, 80
FRAME = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def found(**changes):
    """A person of 20 x 30 pixels and, half out of the frame, a car."""
    settings = {
        "boxes": torch.tensor([[10.0, 20, 30, 50], [60, -5, 90, 10.5]]),
        "scores": torch.tensor([0.875, 0.5]),
        "labels": torch.tensor([0, 1]),
        "image_size": (HEIGHT, WIDTH),
        "mask_logits": torch.full((2, 28, 28), 9.0),
        "track_ids": torch.tensor([4, 7]),
        "class_names": ["person", "car"],
    }
    return Detections(**{**settings, **changes})


def result(**changes):
    return FrameResult(FRAME, 12, 0.48, found(**changes))


# Tables


def test_a_table_has_one_row_per_instance():
    pd = pytest.importorskip("pandas")
    table = found().to_dataframe()
    assert isinstance(table, pd.DataFrame)
    assert table.to_dict("records") == [
        {"track_id": 4, "class_name": "person", "label": 0, "score": 0.875}
        | {"x1": 10.0, "y1": 20.0, "x2": 30.0, "y2": 50.0, "area": 600},
        {"track_id": 7, "class_name": "car", "label": 1, "score": 0.5}
        | {"x1": 60.0, "y1": -5.0, "x2": 90.0, "y2": 10.5, "area": 200},
    ]
    assert found().to_df().equals(table)


def test_a_table_has_columns_only_for_known_fields():
    pytest.importorskip("pandas")
    bare = found(track_ids=None, class_names=None, mask_logits=None)
    assert list(bare.to_dataframe()) == ["label", "score", "x1", "y1", "x2", "y2"]


def test_the_tables_of_a_video_concatenate_without_changing_types():
    pd = pytest.importorskip("pandas")
    frames = [result(), FrameResult(FRAME, 13, None, found()[[]])]
    table = pd.concat([each.to_dataframe() for each in frames])
    assert table["frame"].tolist() == [12, 12] and table["seconds"].tolist() == [0.48, 0.48]
    assert list(table)[:4] == ["frame", "seconds", "track_id", "class_name"]
    kinds = table.dtypes.drop("class_name").astype(str).to_dict()
    whole = ("frame", "track_id", "label", "area")
    assert kinds == {name: "int64" if name in whole else "float64" for name in kinds}


def test_without_pandas_the_install_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pandas.*pip install"):
        result().to_dataframe()


# Pictures


def test_a_plot_shows_masks_in_the_colours_of_their_tracks():
    picture = np.asarray(result().plot())
    assert picture.shape == FRAME.shape and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[40, 10], track_colour(4))
    np.testing.assert_array_equal(picture[55:], FRAME[55:])


def test_a_plot_needs_neither_ids_nor_names_nor_masks():
    bare = found(track_ids=None, class_names=None, mask_logits=None)
    picture = np.asarray(bare.plot(FRAME))
    np.testing.assert_array_equal(picture[40, 10], track_colour(0))
    np.testing.assert_array_equal(np.asarray(bare[[]].plot(FRAME)), FRAME)


def test_detections_plot_on_the_frame_they_carry(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "frame.png")
    expected = np.asarray(found().plot(FRAME))
    for image in (FRAME, Image.fromarray(FRAME), tmp_path / "frame.png"):
        np.testing.assert_array_equal(np.asarray(found(image=image).plot()), expected)
    assert found(image=FRAME)[[1]].crops()[0].size == (20, 11)


def test_plotting_without_a_frame_or_on_another_size_is_refused():
    with pytest.raises(InputError, match=r"plot\(frame\)"):
        found().plot()
    with pytest.raises(InputError, match=r"40x60 .*80x60"):
        found().crops(FRAME[:, :40])
    with pytest.raises(InputError, match=r"uint8 RGB, not .* float64"):
        found().plot(FRAME / 255)


def test_crops_are_the_boxes_clipped_to_the_frame():
    person, car = result().crops()
    np.testing.assert_array_equal(np.asarray(person), FRAME[20:50, 10:30])
    np.testing.assert_array_equal(np.asarray(car), FRAME[:11, 60:])
    beside = torch.tensor([[-50.0, -50, -9, -9], [200, 200, 300, 300], [5, 5, 5, 5]])
    outside = found()[[0, 1, 0]]
    outside.boxes = beside
    assert [crop.size for crop in outside.crops(FRAME)] == [(1, 1)] * 3


def test_a_damaged_frame_is_marked_in_its_repr():
    picture = np.asarray(FrameResult(FRAME, 3, 0.1, nothing_found(FRAME)).plot())
    assert not np.array_equal(picture, FRAME)


# Notebooks and the prompt


def test_a_notebook_shows_picture_and_table():
    page = result()._repr_html_()
    assert re.search(r'<img alt="[^"]+" src="data:image/jpeg;base64,[\w+/=]+">', page)
    assert "<td>person</td>" in page and "<td>0.88</td>" in page and page.count("<tr>") == 3
    with Image.open(io.BytesIO(result()._repr_png_())) as picture:
        assert picture.size == (WIDTH, HEIGHT)
    assert "<img" not in found()._repr_html_()
    assert "<img" in found(image=FRAME)._repr_html_()


def test_a_notebook_truncates_long_tables_and_shrinks_pictures():
    large = np.zeros((1200, 2400, 3), np.uint8)
    many = found(image_size=(1200, 2400))[[0] * 50]
    shown = FrameResult(large, 0, 0.0, many)
    page = shown._repr_html_()
    assert page.count("<tr>") == 21 and "and 30 more" in page
    with Image.open(io.BytesIO(shown._repr_png_())) as picture:
        assert picture.size == (960, 480)


def test_class_names_are_escaped_in_notebooks():
    assert "<script>" not in found(class_names=["<script>", "car"])._repr_html_()


def test_the_repr_of_a_tracked_frame_names_frame_class_and_id():
    assert repr(result()) == (
        "FrameResult(frame 12 at 0.48 s: Detections(2 instances in 80x60, with masks: "
        "#4 person, 0.88 at (10, 20, 30, 50); #7 car, 0.50 at (60, -5, 90, 10)))"
    )
