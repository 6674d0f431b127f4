"""The plot of AP against frames per second (Fig. 1 of the paper)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.visualization.speed_plot import (
    SpeedPoint,
    draw_speed_plot,
    place_labels,
    read_speed_point,
    speed_chart,
)

ROOT = Path(__file__).resolve().parent.parent

TABLE_3 = sorted((ROOT / "benchmarks" / "paper_table3").glob("*.json"))


# Benchmark files


def write(folder, text):
    path = folder / "point.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


GOOD = {"name": "ours", "fps": 12.5, "AP": 0.346}


def test_additional_fields_in_a_benchmark_file_are_ignored(tmp_path):
    assert read_speed_point(write(tmp_path, GOOD)) == SpeedPoint("ours", 12.5, 0.346)
    more = {**GOOD, "group": "g", "device": "H200", "stages": {"decode": 0.1}, "AP50": 0.5}
    assert read_speed_point(write(tmp_path, more)) == SpeedPoint("ours", 12.5, 0.346, "g", "H200")
    nothing_known = {**GOOD, "group": None, "device": None}
    assert read_speed_point(write(tmp_path, nothing_known)) == SpeedPoint("ours", 12.5, 0.346)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ([GOOD], "expected a JSON object with name, fps and AP"),
        ({"name": "ours", "AP": 0.3}, "'fps' is missing"),
        ({"name": "ours", "fps": 3}, "'AP' is missing"),
        ({"fps": 3, "AP": 0.3}, "'name' is missing"),
        ({**GOOD, "name": " "}, "name must be a text, not ' '"),
        ({**GOOD, "name": None}, "name must be a text, not None"),
        ({**GOOD, "group": 3}, "group must be a text, not 3"),
        ({**GOOD, "device": ["cpu"]}, "device must be a text, not ['cpu']"),
        ({**GOOD, "fps": 0}, "fps must be a number above 0"),
        ({**GOOD, "fps": "fast"}, "fps must be a number above 0, up to a million, not 'fast'"),
        ({**GOOD, "fps": True}, "fps must be a number above 0"),
        ('{"name": "n", "AP": 0.1, "fps": NaN}', "fps must be a number above 0"),
        ('{"name": "n", "AP": 0.1, "fps": 1' + 400 * "0" + "}", "fps must be a number above 0"),
        ({**GOOD, "AP": 34.6}, "AP must be a number from 0 to 1 (0.346, not 34.6), not 34.6"),
        ({**GOOD, "AP": -1}, "AP must be a number from 0 to 1"),
        ({**GOOD, "AP": None}, "AP must be a number from 0 to 1"),
    ],
)
def test_bad_benchmark_files_are_refused_in_one_line(content, message, tmp_path, cli_error):
    good, bad = tmp_path / "good.json", write(tmp_path, content)
    good.write_text(json.dumps(GOOD))
    line = cli_error("plot-speed", good, bad, "--out", tmp_path / "out.png")
    assert str(bad) in line and message in line
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json", "--out", "o.png"], "benchmark file none.json: no such file"),
        (["--out", "o.png"], "required: FILE.json"),
        (["none.json", "--out", "o.pdf"], "--out: expected the name of a .png file, got 'o.pdf'"),
    ],
)
def test_bad_input_of_plot_speed_is_refused(words, message, tmp_path, monkeypatch, cli_error):
    monkeypatch.chdir(tmp_path)
    assert message in cli_error("plot-speed", *words)
    assert list(tmp_path.iterdir()) == []


def test_table_3_of_the_paper_is_reproduced_in_the_benchmark_files():
    points = {point.name: point for point in map(read_speed_point, TABLE_3)}
    assert len(points) == len(TABLE_3) == 9  # CompFeat's row has no speed
    ours = points["QueryInst-VIS"]
    assert (ours.average_precision, ours.fps, ours.device) == (0.346, 32.3, "Titan Xp")
    gains = {  # section 4.3 names these two
        name: round(100 * (ours.average_precision - points[name].average_precision), 1)
        for name in ("MaskTrack R-CNN", "SipMask-VIS")
    }
    assert gains == {"MaskTrack R-CNN": 4.3, "SipMask-VIS": 2.1}


# Drawing


def drawn(points, path):
    """The layers of the chart that is drawn: lines, points and labels, with their rows."""
    draw_speed_plot(points, path)
    assert cv2.imread(str(path)) is not None
    chart = speed_chart(points).to_dict()
    data = chart.get("data", {})
    return [(layer, chart["datasets"][layer.get("data", data)["name"]]) for layer in chart["layer"]]


def test_points_are_at_fps_and_ap_and_groups_are_connected(tmp_path):
    points = [
        SpeedPoint("large", 10, 0.5, "family"),
        SpeedPoint("alone", 15, 0.3),
        SpeedPoint("small", 30, 0.25, "family"),
        SpeedPoint("alone", 20, 0.3),
    ]
    (line, joined), (marks, rows), (names, labels) = drawn(points, tmp_path / "out.png")
    assert [(row["fps"], row["AP"]) for row in rows] == [(10, 50), (15, 30), (30, 25), (20, 30)]
    assert line["mark"]["type"] == "line" and line["encoding"]["color"]["field"] == "group"
    groups = [row["group"] for row in joined]
    assert groups[0] == groups[2] and len(set(groups)) == 3  # and not the two of one name
    assert [row["name"] for row in labels] == ["large", "alone", "small", "alone"]
    assert names["encoding"]["text"]["field"] == "name"
    assert marks["encoding"]["x"]["title"] == "frames per second"
    assert marks["encoding"]["y"]["title"] == "AP (%)"
    assert marks["encoding"]["x"]["scale"]["domain"][0] == 0


def test_each_device_has_its_own_marker_and_legend_entry(tmp_path):
    points = [
        SpeedPoint("a", 10, 0.5, device="Titan Xp"),
        SpeedPoint("b", 10, 0.4, device="CPU, 2 cores, $1"),
        SpeedPoint("c", 20, 0.3, device="Titan Xp"),
        SpeedPoint("d", 30, 0.3),
    ]
    _, (marks, rows), _ = drawn(points, tmp_path / "out.png")
    shape = marks["encoding"]["shape"]
    assert shape["scale"]["domain"] == ["Titan Xp", "CPU, 2 cores, $1", "device not given"]
    assert len(set(shape["scale"]["range"])) == 3
    assert [row["device"] for row in rows][2] == "Titan Xp"
    assert shape["legend"]["title"] == "speed measured on"


def test_without_known_devices_there_is_no_legend(tmp_path):
    _, (marks, _), _ = drawn([SpeedPoint("$a {name", 10, 0.5)], tmp_path / "out.png")
    assert marks["encoding"]["shape"]["legend"] is None


def overlapping(boxes):
    """Pairs of boxes that overlap."""
    return [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    ]


def test_labels_of_table_3_overlap_neither_each_other_nor_points():
    points = [read_speed_point(path) for path in TABLE_3]
    boxes = place_labels(points)
    assert overlapping(boxes) == []
    plot = speed_chart(points).to_dict()
    fastest, highest = (
        plot["layer"][1]["encoding"][axis]["scale"]["domain"][1] for axis in ("x", "y")
    )
    lowest = plot["layer"][1]["encoding"]["y"]["scale"]["domain"][0]
    for left, top, right, bottom in boxes:
        assert left >= 0 and right <= plot["width"] and top >= 0 and bottom <= plot["height"]
        for point in points:
            x = point.fps / fastest * plot["width"]
            share = (highest - 100 * point.average_precision) / (highest - lowest)
            y = share * plot["height"]
            assert not (left <= x <= right and top <= y <= bottom)


def test_labels_of_close_points_do_not_overlap():
    points = [SpeedPoint(f"model number {i}", 20 + 0.2 * i, 0.4) for i in range(4)]
    points += [SpeedPoint("slow", 1, 0.2), SpeedPoint("fast", 60, 0.6)]
    assert overlapping(place_labels(points)) == []


def test_a_plot_that_cannot_be_written_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*out.png"):
        draw_speed_plot([SpeedPoint("a", 1, 0.5)], tmp_path / "file" / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
